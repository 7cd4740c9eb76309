"""Opens the ring of a multi-worker job, where it serves better than TensorFlow's collectives."""

import warnings

import tensorflow as tf

from tfdist.compat import coordination
from tfdist.compat import strategy as engine
from tfdist.strategies.agreement import agreement_timeout
from tfdist.strategies.handshake import start_timeout
from tfdist.strategies.heartbeat import Heartbeat
from tfdist.sync import mesh
from tfdist.sync.ring import Ring
from tfdist.tf_config import Cluster

_CONNECT_S = 30.0
_BEYOND_WATCHDOG_S = 30.0  # the watchdog knows better whom to name, so it comes first

# By cluster; TensorFlow joins one a process, so there is one.
_rings: dict[Cluster, Ring | None] = {}


def open_ring(strategy, options):
    """Connects the workers of `strategy`; a collective call.

    Args:
        strategy: a `MultiWorkerMirroredStrategy` whose server runs.
        options: the user's `CommunicationOptions`, or None.

    Returns:
        A `Ring`, the same for each strategy of the process; None where there is one
        worker, where workers have GPUs or several replicas, where the options ask
        for an implementation of TensorFlow's, or where workers cannot connect.
    """
    cluster = strategy.cluster
    if len(cluster.addresses) < 2 or engine.local_device_count() != (1, "CPU"):
        return None
    implementations = tf.distribute.experimental.CommunicationImplementation
    if options is not None and options.implementation != implementations.AUTO:
        return None
    if cluster not in _rings:
        _rings[cluster] = _open(cluster)
    return _rings[cluster]


def _open(cluster):
    sockets, problem = {}, ""
    try:
        sockets = mesh.connect(
            cluster.index, cluster.addresses, coordination.put, coordination.get, _CONNECT_S
        )
    except OSError as error:
        problem = f"worker {cluster.index}: {error}"
    coordination.put(f"tfdist/ring/{cluster.index}", problem)
    for worker, address in enumerate(cluster.addresses):
        told = coordination.get(f"tfdist/ring/{worker}", start_timeout())
        if told is None:
            problem = problem or f"worker {worker} ({address}) did not come"
        problem = problem or told
    names = [f"worker {i} ({address})" for i, address in enumerate(cluster.addresses)]
    ring = Ring(
        cluster.index,
        sockets,
        names,
        deadline=agreement_timeout() + _BEYOND_WATCHDOG_S,
        health=Heartbeat(cluster).lost,
    )
    if not problem:
        return ring
    ring.close()
    if cluster.index == 0:
        warnings.warn(
            f"Workers cannot connect to each other on ports of the kernel's choice ({problem}); "
            "TensorFlow's collectives are used, which are slower. Let the workers reach each "
            "other's ports, or ask for TensorFlow's with CommunicationOptions(implementation="
            "CommunicationImplementation.RING).",
            stacklevel=5,
        )
    return None
