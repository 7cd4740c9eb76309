"""Which data a training can find its place in again, and how.

Arrays and a `PyDataset` are asked for batches by index; a `tf.data.Dataset` gives
the same batches again if its order is fixed and its seeds are the same. All else
is refused, before any work.
"""

import keras
import tensorflow as tf

from tfdist.compat import datasets, epoch_iterator

_ADVICE = (
    "Pass arrays, a `keras.utils.PyDataset`, or a `tf.data.Dataset` with seeds and a fixed order."
)


def check(arguments):
    """Refuses data that cannot be read again, and says what is random in it.

    Args:
        arguments: dict of the arguments of `fit`.

    Returns:
        A list, for each `tf.data.Dataset` the list of its seeds.

    Raises:
        ValueError: a generator, an unordered or an unseeded pipeline.
    """
    seeds = []
    for name in ("x", "validation_data"):
        data = arguments.get(name)
        if isinstance(data, tf.data.Dataset):
            seeds.append(_seeds(name, data))
        elif not _by_index(data):
            raise ValueError(
                f"`Checkpoint` cannot find its place in {name}={type(data).__name__} again after a "
                f"restart: it is read once. {_ADVICE}"
            )
    return seeds


def _by_index(data):
    if data is None or isinstance(data, keras.utils.PyDataset):
        return True
    if hasattr(data, "element_spec"):  # a dataset that a strategy has distributed
        return True
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    return all(hasattr(leaf, "shape") or isinstance(leaf, (int, float)) for leaf in leaves)


def _seeds(name, dataset):
    traits = datasets.traits(dataset)
    if traits.unordered:
        raise ValueError(
            f"`Checkpoint` cannot find its place in {name} again: the order of its batches depends "
            "on timing (`deterministic=False`). Set `options.deterministic = True` and leave "
            "`deterministic=False` out of `map` and `interleave`."
        )
    if (0, 0) in traits.seeds:
        raise ValueError(
            f"`Checkpoint` cannot find its place in {name} again: it is random without a seed. "
            "Call `keras.utils.set_random_seed(seed)` before you make the dataset."
        )
    return [list(pair) for pair in traits.seeds]


def check_seeds(mine, theirs):
    """Refuses a pipeline with other seeds than those of the checkpoint."""
    if mine != theirs:
        raise ValueError(
            f"The checkpoint was written with a tf.data pipeline of the seeds {theirs}, this one "
            f"has {mine}, and would give other batches. Call `keras.utils.set_random_seed(seed)` "
            "with the same seed before you make the dataset, and make it as you did then."
        )


def needs_reading(data):
    """Whether reading the batches of an epoch changes what a later epoch gives."""
    return hasattr(data, "element_spec") and datasets.traits(data).with_memory


def shape_of(epoch_iterator_, arguments, steps_per_execution):
    """What must be equal for a place in the data to mean the same batch.

    Returns:
        A dict of JSON values.
    """
    batch_size = arguments.get("batch_size")
    return {
        "batches an epoch": epoch_iterator.batches_an_epoch(epoch_iterator_),
        "steps_per_epoch": arguments.get("steps_per_epoch"),
        "steps_per_execution": int(steps_per_execution),
        "batch_size": None if batch_size is None else int(batch_size),
        "shuffle": str(arguments.get("shuffle", True)),
    }


def check_shape(mine, theirs):
    """Refuses data, or arguments of `fit`, with which a place in the data means another batch."""
    for name, value in theirs.items():
        if mine[name] != value:
            raise ValueError(
                f"The checkpoint was written with {name}={value}, this `fit` has "
                f"{name}={mine[name]}: its place in the data would be another one. Use the same, "
                "or another directory."
            )
