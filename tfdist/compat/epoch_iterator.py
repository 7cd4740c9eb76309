"""Where `fit` is in its data, and how to get there again without training.

Needs: `TensorFlowTrainer._maybe_symbolic_build` (replaced in `compat.trainer`, which
tells `hand_over`), `EpochIterator._enumerate_iterator`, `._num_batches`,
`._steps_seen`, `._current_iterator`, `Trainer._eval_epoch_iterator`,
`._initial_epoch` and `._get_metrics_result_or_logs`.
Why: Keras begins a fit at an epoch's first batch. What an epoch does to the data
is making iterators (a shuffle that differs from epoch to epoch counts them) and
calling `on_epoch_begin` and `on_epoch_end` of a PyDataset, so finished epochs are
walked through by Keras' own code, without reading where nothing depends on it.
"""

import contextlib

import tensorflow as tf
from keras.src.trainers.epoch_iterator import EpochIterator
from keras.src.trainers.trainer import Trainer

from tfdist.compat.replacing import note, replace

note(
    __name__,
    Trainer,
    "on a model",
    _initial_epoch=(
        "`callbacks.Checkpoint` resumes a training",
        "makes `fit` begin at the epoch that was under way",
    ),
)
note(
    __name__,
    EpochIterator,
    "on an iterator, for one epoch",
    _enumerate_iterator=(
        "`callbacks.Checkpoint` resumes in the middle of an epoch",
        "reads the batches that have been trained on, and drops them",
    ),
)
note(
    __name__,
    EpochIterator,
    "on an iterator",
    **dict.fromkeys(
        ("_num_batches", "_current_iterator"),
        ("`callbacks.Checkpoint` walks through finished epochs", "is what Keras would set then"),
    ),
)


def install():
    replace(
        Trainer,
        "_get_metrics_result_or_logs",
        _logs_of_the_step_before,
        "a resumed epoch has no step left to do",
        "returns the logs of the step before, from the checkpoint",
    )


def expect(model, function):
    """Calls `function(epoch_iterator)` when the next `fit` has made its data adapter.

    The model is built then, so that its variables exist before the first step.
    """
    vars(model)["_tfdist_expects_data"] = function


def hand_over(model, epoch_iterator):
    """Whether `expect` was called for this fit's data; called by `compat.trainer`."""
    function = vars(model).pop("_tfdist_expects_data", None)
    if function is not None:
        function(epoch_iterator)
    return function is not None


def forget(model):
    """Undoes what the functions here have set on a model."""
    for name in ("_tfdist_expects_data", "_tfdist_logs_of_the_step_before"):
        vars(model).pop(name, None)
    model._initial_epoch = None


def set_first_epoch(model, epoch):
    """Makes the present fit begin at `epoch`, at its `on_train_begin`."""
    model._initial_epoch = epoch


def set_logs_of_the_step_before(model, logs):
    """The logs of an epoch whose last step has been done already."""
    vars(model)["_tfdist_logs_of_the_step_before"] = logs


def validation_of(model):
    """The epoch iterator of the present fit's validation data."""
    return model._eval_epoch_iterator


def batches_an_epoch(epoch_iterator):
    """How many, or None as long as that is not known; as Keras counts them."""
    return epoch_iterator._num_batches


def walk_through(epoch_iterator, times, batches=None, read=False, reset=False):
    """Does to the data what `times` finished epochs, or evaluations, have done.

    Args:
        epoch_iterator: Keras' iterator, as it is before the first of them.
        times: int.
        batches: what `batches_an_epoch` is after the first of them.
        read: whether reading the batches changes what comes later.
        reset: whether they were evaluations, which end with a reset.
    """
    for _ in range(times):
        if _walk_through_one(epoch_iterator, read) and epoch_iterator._num_batches is None:
            epoch_iterator._num_batches = batches
        if reset:
            epoch_iterator.reset()


def _walk_through_one(epoch_iterator, read):
    """Returns whether the data ran out, which is how Keras finds an unknown end."""
    read = read or epoch_iterator.steps_per_epoch is not None  # one iterator for all epochs
    unknown = epoch_iterator.data_adapter.num_batches is None
    for _, _, iterator in epoch_iterator._enumerate_iterator():
        if read:
            ran_out = not _read(iterator, epoch_iterator.steps_per_execution)
        else:
            ran_out = unknown
        if ran_out:  # as in `EpochIterator.catch_stop_iteration`
            if read and epoch_iterator._num_batches is None:
                epoch_iterator._num_batches = epoch_iterator._steps_seen
            epoch_iterator._current_iterator = None
            epoch_iterator.data_adapter.on_epoch_end()
            return True
    return False


def begin_at(epoch_iterator, step):
    """Makes the next epoch begin at batch `step`; those before are read and dropped."""
    enumerate_all = epoch_iterator._enumerate_iterator

    def _enumerate_iterator():
        del epoch_iterator._enumerate_iterator  # the epochs that follow are whole
        for begin, end, iterator in enumerate_all():
            if begin >= step:
                yield begin, end, iterator
            else:
                _read(iterator, min(epoch_iterator.steps_per_execution, step - begin))
                _mark_read(iterator)

    epoch_iterator._enumerate_iterator = _enumerate_iterator


def was_read(iterator):
    """Whether `begin_at` has read batches of an iterator, which then is not empty."""
    return getattr(iterator, "__dict__", {}).get("_tfdist_was_read", False)


def _mark_read(iterator):
    vars(iterator)["_tfdist_was_read"] = True


def _read(iterator, batches):
    """Returns how many batches there were."""
    count = 0
    with contextlib.suppress(StopIteration, tf.errors.OutOfRangeError):
        for _ in range(batches):
            next(iterator)
            count += 1
    return count


def _logs_of_the_step_before(original):
    def _get_metrics_result_or_logs(self, logs):
        # `fit` has no logs where no step of the epoch was left to do.
        logs = logs or vars(self).get("_tfdist_logs_of_the_step_before", logs)
        return original(self, logs)

    return _get_metrics_result_or_logs
