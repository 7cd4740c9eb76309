"""What in a `tf.data` pipeline is random, unordered or has a memory, and what it reads.

Needs: `Dataset._inputs`, `Dataset._functions` with the `.function` of each,
`_deterministic` of parallel datasets, `_seed` and `_seed2` of shuffles; and the
attributes of `_ARGUMENTS`, each where it is there.
Why: a pipeline can be walked through again if its seeds are the same and its
order is fixed, and workers read the same if theirs are made of the same; its
public interface tells nothing of it.
"""

from typing import NamedTuple

import tensorflow as tf

# How operations begin that remember what they have been asked for: Python code, and
# what writes to a variable (a generator's state, too) or to a table.
_WITH_MEMORY = (
    *("PyFunc", "EagerPyFunc", "GeneratorDataset"),
    *("Rng", "Assign", "ResourceScatter", "LookupTableInsert", "LookupTableRemove"),
)
# What decides which examples a part gives, and in which order.
_ARGUMENTS = (
    *("_tensors", "_filenames", "_start", "_stop", "_step", "_num_shards", "_index"),
    *("_seed", "_seed2", "_count", "_batch_size"),
)
_CACHES = {"CacheDataset", "CacheDatasetV2"}


class Traits(NamedTuple):
    """What `traits` finds in a pipeline.

    Attributes:
        unordered: bool, whether its order depends on timing.
        seeds: list of pairs of ints, those of all that is random in it; (0, 0) where
            none was set.
        with_memory: bool, whether reading a batch may change a later epoch's.
    """

    unordered: bool
    seeds: list
    with_memory: bool


def traits(dataset):
    """Looks through a `tf.data.Dataset`.

    Args:
        dataset: the dataset; one that does not show its parts (a distributed one)
            is taken to have none.

    Returns:
        A `Traits`.
    """
    if not isinstance(dataset, tf.data.Dataset):
        return Traits(False, [], True)
    unordered = dataset.options().deterministic is False
    seeds, with_memory = [], False
    for part in _parts(dataset):
        unordered = unordered or str(getattr(part, "_deterministic", None)) == "false"
        if hasattr(part, "_seed") and hasattr(part, "_seed2"):
            seeds.append((int(part._seed), int(part._seed2)))
        with_memory = with_memory or type(part).__name__ in _CACHES
        for function in part._functions():
            graph = function.function.graph.as_graph_def()
            inner = [node for one in graph.library.function for node in one.node_def]
            for node in [*graph.node, *inner]:
                with_memory = with_memory or node.op.startswith(_WITH_MEMORY)
                if "seed" in node.attr and "seed2" in node.attr:
                    seeds.append((node.attr["seed"].i, node.attr["seed2"].i))
    return Traits(unordered, seeds, with_memory)


def arguments(dataset):
    """What the parts of a `tf.data.Dataset` were made with, as far as they say.

    Args:
        dataset: the dataset; functions that it maps are not looked into.

    Returns:
        A list of `(name, eager tensor)`, such as `("ShardDataset.index", ...)`; the same
        names in the same order for datasets that are made alike.
    """
    found = []
    for part in _parts(dataset):
        for attribute in _ARGUMENTS:
            name = f"{type(part).__name__.strip('_')}.{attribute.strip('_')}"
            for value in tf.nest.flatten(getattr(part, attribute, None)):
                if isinstance(value, tf.data.Dataset):
                    found += [(name, tensor) for _, tensor in arguments(value)]
                elif isinstance(value, tf.Tensor) and value.dtype != tf.variant:
                    found.append((name, value))
    return found


def _parts(dataset):
    seen, waiting = {}, [dataset]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen[id(part)] = part
            waiting += part._inputs()
    return list(seen.values())
