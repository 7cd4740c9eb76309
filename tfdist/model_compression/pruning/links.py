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


def hold(model: keras.Model, strategy: Any, link: Callable) -> None:
    """Calls `link` behind each update of the model from now on, in the place of an earlier one."""
    earlier = vars(model).get("_tfdist_pruning")
    if earlier is not None:
        earlier.close()
    stack, chain = contextlib.ExitStack(), chain_of(model)
    stack.enter_context(chain.linked("masks", link))
    if strategy is None:
        stack.enter_context(compat_trainer.behind_train_step(model, lambda: chain.run(None, True)))
    vars(model)["_tfdist_pruning"] = stack
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
