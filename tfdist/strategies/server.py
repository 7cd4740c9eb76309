"""What a worker and a parameter server of asynchronous training do: they serve.

The coordinator (TensorFlow calls its job "chief") runs the user's program. Workers and
parameter servers run the same script; where it makes the strategy, they become
servers, and end when the coordinator has ended.
"""

import multiprocessing
import socket
import sys
import time

import tensorflow as tf

from tfdist.strategies.handshake import start_timeout

_PROBE_S = 1.0
_LOST_S = 5.0  # a coordinator that cannot be reached for so long has ended


def serve(cluster):
    """Serves until the coordinator has ended; does not return.

    Args:
        cluster: a `tfdist.tf_config.Cluster` with parameter servers.

    Raises:
        TimeoutError: the coordinator did not come.
        SystemExit: it came, and has ended.
    """
    jobs = {"chief": [cluster.coordinator], "worker": list(cluster.workers)}
    jobs["ps"] = list(cluster.parameter_servers)
    config = tf.compat.v1.ConfigProto()
    if multiprocessing.cpu_count() <= len(cluster.workers):
        # A lock that one worker holds must not take the last thread from the others.
        config.inter_op_parallelism_threads = len(cluster.workers) + 1
    server = tf.distribute.Server(
        tf.train.ClusterSpec(jobs),
        job_name=cluster.job,
        task_index=cluster.task,
        protocol="grpc",
        config=config,
    )
    _wait_for_its_end(cluster.coordinator)
    del server  # it serves as long as it is there
    sys.exit(0)


def _wait_for_its_end(coordinator):
    begin, last_seen = time.monotonic(), None
    while True:
        now = time.monotonic()
        if reachable(coordinator, _PROBE_S):
            last_seen = now
        elif last_seen is None and now - begin > start_timeout():
            raise TimeoutError(
                f"the coordinator ({coordinator}) did not come within {start_timeout():g} s: start "
                'the same script there with the task {"type": "chief", "index": 0}, or use '
                "`tfdist run --ps`; TFDIST_START_TIMEOUT sets how many seconds servers wait."
            )
        elif last_seen is not None and now - last_seen > _LOST_S:
            return
        time.sleep(_PROBE_S)


def wait_for_servers(cluster, timeout=None):
    """Waits until all workers and parameter servers listen.

    Raises:
        TimeoutError: one of them does not; names it.
    """
    timeout = start_timeout() if timeout is None else timeout
    deadline = time.monotonic() + timeout
    waiting = {f"worker {i}": address for i, address in enumerate(cluster.workers)}
    waiting |= {f"parameter server {i}": a for i, a in enumerate(cluster.parameter_servers)}
    while True:
        waiting = {name: a for name, a in waiting.items() if not reachable(a, _PROBE_S)}
        if not waiting:
            return
        if time.monotonic() > deadline:
            names = ", ".join(f"{name} ({address})" for name, address in waiting.items())
            raise TimeoutError(
                f"{names} did not come within {timeout:g} s. Start the same script there with its "
                "own TF_CONFIG, or use `tfdist run --ps`; TFDIST_START_TIMEOUT sets how many "
                "seconds the coordinator waits."
            )
        time.sleep(0.1)


def reachable(address, timeout):
    """Whether a process listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except OSError:
        return False
    return True
