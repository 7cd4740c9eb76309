"""Where pruning stands in the steps of a model, with a strategy and without."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfdist.compat import optimizer as compat_optimizer
from tfdist.compat import trainer as compat_trainer
from tfdist.sync.after_update import chain_of
from tfdist.sync.before_update import BeforeUpdate


def hold(model: keras.Model, strategy: Any, masks: Any, link: Callable) -> None:
    """Calls `link` behind each update of the model from now on."""
    stack, chain = contextlib.ExitStack(), chain_of(model)
    stack.enter_context(chain.linked("masks", link))
    if strategy is None and "_tfdist_behind_step" not in vars(model):
        # Once, and for good: a chain without links does nothing.
        context = compat_trainer.behind_train_step(model, lambda: chain.run(None, True))
        context.__enter__()
        vars(model)["_tfdist_behind_step"] = context
    keep(model, masks, stack)


def keep(model: keras.Model, masks: Any, stack: contextlib.ExitStack) -> None:
    """Notes that `masks` hold until `stack` is closed.

    Earlier ones of the same kind and variables give way: the new ones have found their zeros.
    Others go on to hold, as those of weights where filters are pruned next.
    """
    earlier = vars(model).setdefault("_tfdist_pruning", [])
    own = {id(variable) for variable in masks.held}
    for entry in list(earlier):
        known, before = entry
        if type(known) is type(masks) and {id(v) for v in known.held} <= own:
            before.close()
            earlier.remove(entry)
    earlier.append((masks, stack))
    model.train_function = None


@contextlib.contextmanager
def in_front_of_updates(model: keras.Model, strategy: Any, link: Callable) -> Iterator[None]:
    """Inside, `link` sees the gradients of each update of the model; see `BeforeUpdate`."""
    chain = BeforeUpdate() if strategy is None else strategy.before_update(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(chain.linked(link))
        if strategy is None and model.optimizer is not None:
            stack.enter_context(compat_optimizer.before_apply(model.optimizer, chain.run))
        yield
