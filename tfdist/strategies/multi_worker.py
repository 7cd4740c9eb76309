"""Replicas on several machines, or in several processes of one."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import platform
import random
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy
import tensorflow as tf

import tfdist
from tfdist import tf_config
from tfdist.compat import coordination
from tfdist.compat import strategy as engine
from tfdist.strategies import handshake
from tfdist.strategies.agreement import agree, exchange
from tfdist.strategies.cpu_ring import open_ring
from tfdist.strategies.lost_worker import explain, explain_ring
from tfdist.strategies.mirrored_engine import MirroredEngine
from tfdist.strategies.variables import all_variables, describe, fingerprints, send_to_all
from tfdist.strategies.watchdog import Watchdog
from tfdist.sync import ring_ops

# The cluster that this process has joined: TensorFlow allows one a process.
_joined = None


def joined_cluster() -> tf_config.Cluster | None:
    """The `tf_config.Cluster` that this process trains in, or None."""
    return _joined


class MultiWorkerMirroredStrategy(MirroredEngine, tf.distribute.MultiWorkerMirroredStrategy):
    """Synchronous training on several workers.

    A `tf.distribute.MultiWorkerMirroredStrategy` under which Keras 3 trains with
    the numbers of a single process. Every worker runs the same script; `tfdist
    run` starts them, or whatever sets `TF_CONFIG`. Without `TF_CONFIG` this is one
    worker, on all of its devices.

    All workers must call together, with the same arguments: the constructor,
    `fit`, `evaluate`, `predict`, `strategy.run`, `strategy.gather`,
    `strategy.reduce` and `tfdist.barrier`. Each may call alone: `model.save`,
    `save_weights` and `export` (the chief writes, the others do nothing), reading
    metrics and weights, building and compiling. A model that was made outside the scope
    is each worker's own: its `fit` trains there alone, and warns of it.

    Workers must shuffle alike. Where `tf.random.set_seed` (or
    `keras.utils.set_random_seed`) was not called before, the constructor of several
    workers' strategy calls `tf.random.set_seed` with a number that the chief has drawn.

    Example:

    ```python
    strategy = tfdist.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(10)])
        model.compile("adam", "mse")
    model.fit(x, y, batch_size=64)  # 64 examples a step, over all workers
    ```

    Args:
        cluster_resolver: a `tf.distribute.cluster_resolver.ClusterResolver`.
            Defaults to the one that reads `TF_CONFIG`.
        communication_options: `tf.distribute.experimental.CommunicationOptions`,
            such as NCCL for GPUs. With the implementation AUTO, workers of one CPU
            replica each sum through connections of their own (`tfdist.sync.ring`), and
            all others as with RING, which is TensorFlow's gRPC.

    Raises:
        ValueError: a malformed `TF_CONFIG`.
        TimeoutError: a worker did not come (`TFDIST_START_TIMEOUT` seconds, 300).
        RuntimeError: workers disagree, or TensorFlow has already been used.

    Warns:
        UserWarning: there is no `TF_CONFIG`, and this is the only worker.
    """

    def __init__(
        self,
        cluster_resolver: tf.distribute.cluster_resolver.ClusterResolver | None = None,
        communication_options: tf.distribute.experimental.CommunicationOptions | None = None,
    ) -> None:
        cluster = _cluster(cluster_resolver)
        self.cluster = cluster
        self._new_variables: list[weakref.ref[tf.Variable]] = []  # in the order of their making
        if len(cluster.addresses) > 1:
            _join(cluster)
        elif cluster_resolver is None and not cluster.addresses and not _by_tfdist():
            warnings.warn(
                "MultiWorkerMirroredStrategy found no TF_CONFIG, so this process trains alone. "
                "Start the script by `tfdist run -n 2 SCRIPT`; `tfdist.auto_strategy()` suits a "
                "single process, too.",
                stacklevel=2,
            )
        engine.number_collectives_apart(self, all_workers=True)
        with engine.all_logical_cpus():
            super().__init__(cluster_resolver, communication_options)
        self.ring = open_ring(self, communication_options)
        sum_over_workers = self.ring and functools.partial(ring_ops.all_reduce, self.ring)
        self._adopt_engine(communication_options, sum_over_workers)
        self._watchdog = Watchdog(self.worker_index, cluster.addresses, self._abort)

    def begin(self, model: keras.Model, facts: dict[str, Any]) -> None:
        if self.num_workers == 1:
            return
        every = all_variables(model)
        variables = self._take_new(every)
        facts = {**facts, "new variable": describe(variables)}
        if facts.get("method") == "fit":
            new = {id(variable) for variable in variables}
            sync = self.gradient_sync_of(model)
            if sync is None or not sync.replicas_differ:
                alike = [v for v in every if id(v) not in new]
                facts["weight"] = fingerprints(alike)
        self._agree(f"`{facts.get('method', 'a step')}`", facts)
        with self.watching("sending variables"):
            send_to_all(self, variables)

    def explain(self, error: BaseException, method: str) -> BaseException | None:
        if self.ring is not None and self.ring.error is not None:
            return explain_ring(self.ring.error, method)
        if self.num_workers > 1:
            return explain(error, method, self.cluster)
        return None

    def _abort(self, message):
        if self.ring is not None:
            self.ring.abort(message)
        coordination.abort_collectives(message)

    def watching(self, description: str) -> contextlib.AbstractContextManager[Any]:
        if self.num_workers == 1:
            return contextlib.nullcontext()
        return self._watchdog.watching(description)

    def exchange(self, what: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
        if self.num_workers == 1:
            return [facts]
        return exchange(what, facts, self.worker_index, self.cluster.addresses)

    def synchronize_new_variables(self) -> None:
        if not any(reference() is not None for reference in self._new_variables):
            return
        # Those of a model that was dropped are alive until Python collects them, which
        # each worker does in its own time.
        gc.collect()
        variables = self._take_new()
        if variables:
            self._agree("creating variables", {"new variable": describe(variables)})
            with self.watching("sending variables"):
                send_to_all(self, variables)

    def renew(self, variables: Sequence[tf.Variable]) -> None:
        known = {id(reference()) for reference in self._new_variables}
        for variable in variables:
            if id(variable) not in known:
                self._note_variable(variable)

    def _agree(self, what, facts):
        agree(what, facts, self.worker_index, self.cluster.addresses)

    def _note_variable(self, variable):
        # Weakly: saving a model inside the scope, which the chief does alone,
        # makes variables that are gone again at once.
        self._new_variables.append(weakref.ref(variable))

    def _take_new(self, among=None):
        """The variables that have not been sent to all yet, of those in `among` if given."""
        taken, left = [], []
        wanted = among and {id(variable) for variable in among}
        for reference in self._new_variables:
            variable = reference()
            if variable is not None:
                (taken if wanted is None or id(variable) in wanted else left).append(reference)
        self._new_variables = left
        return [
            variable for variable in (reference() for reference in taken) if variable is not None
        ]


def _cluster(resolver):
    if resolver is None:
        cluster = tf_config.from_environment()
        if cluster.addresses and cluster.job not in ("chief", "worker"):
            raise ValueError(
                f"MultiWorkerMirroredStrategy runs on the tasks `chief` and `worker`; TF_CONFIG "
                f"makes this one a {cluster.job!r}."
            )
        return cluster
    jobs = resolver.cluster_spec().as_dict()
    addresses = tuple(a for job in ("chief", "worker") for a in jobs.get(job, ()))
    index = resolver.task_id or 0
    if resolver.task_type == "worker":
        index += len(jobs.get("chief", ()))
    job = resolver.task_type or "worker"
    return tf_config.Cluster(addresses, index, job, tuple(jobs.get("ps", ())), "chief" in jobs)


def _by_tfdist():
    """Whether `tfdist run` has started this process, as the only worker perhaps."""
    return "TFDIST_LOCAL_RANK" in os.environ


def _join(cluster):
    global _joined
    if _joined is not None:
        if _joined != cluster:
            raise RuntimeError(
                f"This process is worker {_joined.index} of {_joined.addresses} already, and "
                f"cannot become worker {cluster.index} of {cluster.addresses}: TensorFlow joins "
                "one cluster a process. Start a new process."
            )
        return
    if coordination.eager_context_started():
        raise RuntimeError(
            "MultiWorkerMirroredStrategy must be made before TensorFlow runs anything (a tensor, "
            "a model, listing logical devices): workers join their cluster when TensorFlow "
            "starts. Make the strategy at the top of the script; in a notebook, let "
            "`tfdist.run(function, workers=2)` start workers of their own."
        )
    versions = {
        "tfdist": tfdist.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": numpy.__version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "floatx": keras.config.floatx(),
        "devices": "{} {}".format(*engine.local_device_count()),
    }
    seed = random.SystemRandom().randrange(2**31)
    facts = handshake.meet(cluster.addresses, cluster.index, {**versions, "seed": seed})
    if coordination.global_seed() is None:
        # Without a seed each worker would shuffle in an order of its own.
        coordination.choose_seed(facts["seed"])
    _joined = cluster
