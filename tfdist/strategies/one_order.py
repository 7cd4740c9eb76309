"""All workers read a pipeline in one order.

Every worker reads all global batches of a `tf.data.Dataset` and keeps its rows (see
`tfdist.data.split`). If the order depends on timing (`options.deterministic = False`,
`deterministic=False` of a parallel `map` or `interleave`), each reads another one, and an
example is then trained on twice, or never. Such a pipeline is therefore read in the order that
it has without these; a warning says so once. One worker alone keeps its own order and speed, and
so do pipelines whose auto-shard policy is FILE, HINT or OFF: their workers read other files.

Limits: random numbers that parallel calls draw differ between workers, as they do from run to
run. Where they decide which examples there are (a `filter` after a random parallel `map`), draw
them from a seed with `tf.random.stateless_uniform`.
"""

import warnings

from tfdist.compat import datasets

_FASTER = (
    "Where reading is what takes the time, shard the files: set "
    "`options.experimental_distribute.auto_shard_policy` to `tf.data.experimental.AutoShardPolicy."
    "FILE`, with which each worker reads files of its own, in any order."
)
_told: set[str] = set()


def of_all_workers(dataset, strategy):
    """`dataset` itself, or one of the same examples in an order that all workers share.

    Args:
        dataset: a `tf.data.Dataset` of global batches, the same on all workers.
        strategy: a tfdist strategy of several workers.

    Raises:
        ValueError: the order depends on timing and cannot be fixed.
    """
    found = datasets.traits(dataset).unordered
    try:
        ordered = datasets.in_one_order(dataset) if found else dataset
    except ValueError as error:
        raise ValueError(
            f"The order of the tf.data pipeline depends on timing: it has {error}. Each of "
            f"{strategy.num_workers} workers reads the whole pipeline and keeps its rows of each "
            "batch, so all must read it in one order, which is not possible here. Remove this "
            f"part, or make the dataset inside of the function that uses it. {_FASTER}"
        ) from None
    if found and strategy.is_chief:
        _tell(
            f"The order of the tf.data pipeline depends on timing: it has "
            f"{' and '.join(dict.fromkeys(found))}. On {strategy.num_workers} workers it is read "
            "in the order that it has without, since each worker reads the whole pipeline and "
            "keeps its rows of each batch; in orders of their own workers would train on some "
            f"examples twice and on others never. {_FASTER}"
        )
    return ordered


def _tell(text):
    if text not in _told:
        _told.add(text)
        warnings.warn(text, stacklevel=2)
