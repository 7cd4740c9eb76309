"""What Keras' `fit`, `evaluate` and `predict` do besides their own work, under the patches.

What is done there is not decided here: `tfdist.strategies` registers its checks when it is
imported, and `compat.trainer` calls what is registered.
"""

import contextlib
import dataclasses
from collections.abc import Callable


def _nothing_around(method, model, arguments):
    return contextlib.nullcontext()


def _nothing_before_epochs(strategy, num_batches, batch_size):
    pass


def _empty_dataset():
    return ValueError("Received a dataset without a batch.")


@dataclasses.dataclass(frozen=True)
class Hooks:
    """The functions that the patched methods call. Those left out do nothing.

    Attributes:
        around: `around(method, model, arguments)` returns the context manager in which
            Keras' own method runs, for any model. `method` is "fit", "evaluate" or "predict";
            `arguments`, a dict by name, may be changed in place.
        before_epochs: `before_epochs(strategy, num_batches, batch_size)` is called for a model
            of a tfdist strategy when its data is known; either number may be None.
        empty_dataset: `empty_dataset()` returns the error for data without a batch.
    """

    around: Callable = _nothing_around
    before_epochs: Callable = _nothing_before_epochs
    empty_dataset: Callable = _empty_dataset


_registered = Hooks()


def register(hooks):
    """Makes `hooks` those that are called, from the next call of a method on."""
    global _registered
    _registered = hooks


def registered():
    """The `Hooks` that are called now."""
    return _registered
