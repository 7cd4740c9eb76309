"""Several workers evaluate one model together: on the same data, or not at all.

Under a tfdist strategy each worker predicts a share of a batch, and all get the whole. If
their data were different (a data set that shuffles by another seed, a shard for each worker),
predictions and labels would not belong together, and no number would say so.
"""

import hashlib
import itertools
import sys

import keras
import numpy as np

from tfdist.compat import trainer as compat_trainer


class Workers:
    """All workers that evaluate; nothing to do where there is one.

    Args:
        predictor: as `predictor_of` returns it.
    """

    def __init__(self, predictor):
        self._cluster = None
        model = getattr(predictor, "model", None)
        if model is not None and compat_trainer.strategy_of(model) is not None:
            multi_worker = sys.modules.get("tfdist.strategies.multi_worker")
            self._cluster = multi_worker and multi_worker.joined_cluster()
        self._chunks = itertools.count()

    def agree_on(self, chunk):
        """Checks that all workers hold the same chunk; None: that all are at the end.

        Raises:
            RuntimeError: a worker holds another; the error names it.
            TimeoutError: a worker does not call `evaluate`.
        """
        if self._cluster is None or len(self._cluster.addresses) == 1:
            return
        from tfdist.strategies.agreement import agree

        facts = {"examples": 0 if chunk is None else len(chunk)}
        if chunk is not None:
            facts["data"] = _digest([chunk.x, chunk.y, chunk.weight])
        what = f"`tfdist.evaluate` (part {next(self._chunks)} of the data)"
        agree(what, facts, self._cluster.index, self._cluster.addresses)


def _digest(parts):
    digest = hashlib.blake2b(digest_size=8)
    for part in keras.tree.flatten(parts):
        if part is None:
            continue
        if part.dtype.kind == "O":
            part = np.array([str(one) for one in part.ravel()])
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
