"""What in a `tf.data` pipeline is random, unordered or has a memory, and what it reads.

Needs: `Dataset._inputs`, `Dataset._functions` with the `.function` of each,
`_deterministic` of parallel datasets, `_seed` and `_seed2` of shuffles; the
attributes of `_ARGUMENTS`, each where it is there; the attributes `deterministic` and
`sloppy` of operations; `_DataServiceDataset` in the name of a type; `_flat_types` and
`_flat_shapes`; and the rewriter "make_deterministic" of the (public) raw operation
`OptimizeDatasetV2`.
Why: a pipeline can be walked through again if its seeds are the same and its
order is fixed, and workers read the same if theirs are made of the same; its
public interface tells nothing of it. `options.deterministic = True` does not reach
parts that were made with `deterministic=False`; the rewriter does, also in functions.
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
# Behind `batch`, these leave the number of rows as it is.
_KEEP_ROWS = (
    *("Prefetch", "Repeat", "Options", "Take", "Skip", "Shuffle", "Cache", "MemoryCache"),
    *("Map", "ParallelMap", "Shard"),
)
_SERVICE = "a dataset of tf.data's service, which gives elements as they are ready"
_CACHES = {"CacheDataset", "CacheDatasetV2"}


class Traits(NamedTuple):
    """What `traits` finds in a pipeline.

    Attributes:
        unordered: list of str, what makes its order depend on timing, if anything does.
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
        return Traits([], [], True)
    unordered = ["`options.deterministic = False`"] * (dataset.options().deterministic is False)
    seeds, with_memory = [], False
    parts = _parts(dataset)
    if any(type(part).__name__ == "_ParallelInterleaveDataset" for part in parts):
        unordered += _unordered_interleaves(dataset)
    for part in parts:
        name = type(part).__name__.strip("_")
        if str(getattr(part, "_deterministic", None)) == "false":
            unordered.append(f"`deterministic=False` of a {name}")
        if "DataServiceDataset" in name:
            unordered.append(_SERVICE)
        if hasattr(part, "_seed") and hasattr(part, "_seed2"):
            seeds.append((int(part._seed), int(part._seed2)))
        with_memory = with_memory or type(part).__name__ in _CACHES
        for function in part._functions():
            unordered += _unordered_captures(function.function)
            graph = function.function.graph.as_graph_def()
            inner = [node for one in graph.library.function for node in one.node_def]
            for node in [*graph.node, *inner]:
                with_memory = with_memory or node.op.startswith(_WITH_MEMORY)
                if _is_unordered(node):
                    unordered.append(f"`deterministic=False` of a {node.op} in a function")
                if "seed" in node.attr and "seed2" in node.attr:
                    seeds.append((node.attr["seed"].i, node.attr["seed2"].i))
    return Traits(unordered, seeds, with_memory)


def batch_size(dataset):
    """The rows of each batch of a `tf.data.Dataset` but the last one; None if it is not known."""
    while isinstance(dataset, tf.data.Dataset):
        if hasattr(dataset, "_batch_size"):
            return int(dataset._batch_size)
        inputs = dataset._inputs()
        kind = type(dataset).__name__.strip("_").removesuffix("V2").removesuffix("Dataset")
        if kind not in _KEEP_ROWS or len(inputs) != 1:
            return None
        (dataset,) = inputs
    return None


def in_one_order(dataset):
    """A `tf.data.Dataset` of the same elements, in an order that does not depend on timing.

    It is the order that `dataset` would have, had `deterministic` never been False.

    Args:
        dataset: a `tf.data.Dataset`; it is left as it is.

    Raises:
        ValueError: a part whose order cannot be fixed.
    """
    for part in _parts(dataset):
        if "DataServiceDataset" in type(part).__name__:
            raise ValueError(_SERVICE)
        for function in part._functions():
            # The rewriter does not look into datasets that functions have captured.
            for found in _unordered_captures(function.function):
                raise ValueError(found)
    rewritten = tf.raw_ops.OptimizeDatasetV2(
        input_dataset=tf.data.experimental.to_variant(dataset),
        optimizations_enabled=["make_deterministic"],
        optimizations_disabled=[],
        optimizations_default=[],
        output_types=dataset._flat_types,
        output_shapes=dataset._flat_shapes,
    )
    ordered = tf.data.experimental.from_variant(rewritten, dataset.element_spec)
    vars(ordered)["_tfdist_source"] = dataset  # whose Python functions it calls
    options = tf.data.Options().merge(dataset.options())
    options.deterministic = True
    return ordered.with_options(options)


def _unordered_interleaves(dataset):
    """As Python objects they do not keep their `deterministic`."""
    nodes, _ = _nodes(tf.data.experimental.to_variant(dataset))
    if nodes is None:
        return ["an `interleave` that cannot be looked into beside so much data in memory"]
    return [
        f"`deterministic=False` of a {node.op}"
        for node in nodes
        if node.op.startswith("ParallelInterleave") and _is_unordered(node)
    ]


def _unordered_captures(function):
    """What is unordered in the datasets that a function uses but did not make."""
    found = []
    for tensor in function.captured_inputs:
        if tensor.dtype == tf.variant:
            nodes, inner = _nodes(tensor)
            found += [
                f"`deterministic=False` of a {node.op} in a dataset that was made outside of the "
                "function that uses it"
                for node in [*(nodes or ()), *inner]
                if _is_unordered(node)
            ]
    return found


def _nodes(variant):
    """The operations of a dataset, and those of its functions.

    Returns:
        Two lists of `NodeDef`s; None for the first one where `variant` is no dataset, or holds
        gigabytes, which do not fit into a graph.
    """
    try:
        graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=1)
    except tf.errors.OpError:
        return None, []
    graph = tf.compat.v1.GraphDef.FromString(graph.numpy())
    return list(graph.node), [node for one in graph.library.function for node in one.node_def]


def _is_unordered(node):
    return node.attr["deterministic"].s == b"false" or node.attr["sloppy"].b


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
