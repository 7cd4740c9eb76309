"""Asks whether the other workers are alive, without waiting for the answer.

TensorFlow's coordination service, which runs in the chief, hears a heartbeat of
each worker; it notices what no closed connection tells, such as a process that
is stopped. Where the chief itself does not answer, it is the one that is lost.
"""

import threading
import time

from tfdist.compat import coordination

_PATIENCE_S = 12.0  # for the service's answer; its own heartbeat takes ten seconds


class Heartbeat:
    """What the service says of the workers of a cluster.

    Args:
        cluster: the `tf_config.Cluster`.
    """

    def __init__(self, cluster):
        self._cluster = cluster
        self._asked = None  # when, if there is no answer yet
        self._lost = []

    def lost(self):
        """Which workers the last answer said are lost: a list of pairs `(name, why)`."""
        if not self._lost and self._asked is None:
            self._asked = time.monotonic()
            threading.Thread(target=self._ask, name="tfdist heartbeat", daemon=True).start()
        elif self._asked is not None and time.monotonic() - self._asked > _PATIENCE_S:
            return [(self._name(0), "it does not answer")]
        return self._lost

    def _ask(self):
        addresses, first = self._cluster.addresses, int(self._cluster.has_chief)
        try:
            lost = [0] if first and coordination.lost_tasks("chief", 1) else []
            tasks = coordination.lost_tasks("worker", len(addresses) - first)
            lost += [first + task for task in tasks]
        except Exception:  # the service is gone, or is told to end; connections will tell
            lost = []
        self._lost = [(self._name(i), "it ended, or does not answer") for i in lost]
        self._asked = None

    def _name(self, worker):
        return f"worker {worker} ({self._cluster.addresses[worker]})"
