"""Decides for all nodes of a run: when to start, whom to blame, whether to restart.

There is one coordinator for a run, a thread in node 0's launcher. Each node's
launcher, node 0's own included, talks to it by messages, small dicts with a
"type" (see `rendezvous` for how they travel):

from a node:
    join     version, nnodes, node_rank, max_restarts, parameter_servers, hostname,
             address, ports: this node is ready for the next attempt
    failed   attempt, rank, code, age_s: a worker failed `age_s` seconds ago
    ended    attempt: all workers of this node have ended with 0
    leaving  signal: this node was told to stop
    broken   reason: this node cannot start its workers
    stopped  attempt, tail: the workers are gone, as asked by stop; the last
             output of the worker to blame, if it is of this node
    lost     reason: made by the transport when a connection ends

to a node:
    start    attempt, cluster, first_rank: start your workers
    stop     attempt, failure: end your workers
    over     failure (None for success), restart: the attempt is over everywhere
    refused  reason, exit_code: nothing was started

A failure is a dict of `text` (who failed and how, for people), `exit_code`,
`rank` (None if it is not a worker's), `tail` and `can_restart`.

Limits: a node whose launcher is gone cannot come back, so its loss ends the
run whatever `max_restarts` is.
"""

import contextlib
import dataclasses
import queue
import signal
import threading
import time
import traceback

from tfdist.cluster import terms
from tfdist.cluster.environment import name_of
from tfdist.cluster.gang import GRACE_S, SETTLE_S, culprit, how_it_failed, shell_code

# After stop: the grace of a gang, and some more for killing it and for the way.
STOP_DEADLINE_S = GRACE_S + 3.0


@dataclasses.dataclass
class _Node:
    """What the coordinator knows of a node."""

    channel: object
    hostname: str
    address: str
    ports: list
    ended: bool = False
    stopped: bool = False
    lost: bool = False


@dataclasses.dataclass(frozen=True)
class _Failure:
    """A failure with what `gang.culprit` looks at."""

    code: int
    time: float
    rank: int | None
    text: str
    can_restart: bool = True


class Coordinator:
    """The thread that holds the state of a run and answers the nodes.

    Args:
        nnodes: How many nodes take part.
        max_restarts: How often the gang may be started again.
        version: The package version that all nodes must have.
        timeout: Seconds for all nodes to come.
        where: "HOST:PORT" of the rendezvous, for messages.
        parameter_servers: How many of the run's processes are those.
    """

    def __init__(self, nnodes, max_restarts, version, timeout, where, parameter_servers=0):
        self._terms = {
            "nnodes": nnodes,
            "max_restarts": max_restarts,
            "parameter_servers": parameter_servers,
            "version": version,
        }
        self._parameter_servers = parameter_servers
        self._nnodes, self._max_restarts = nnodes, max_restarts
        self._timeout, self._where = timeout, where
        self._inbox = queue.SimpleQueue()
        self._nodes, self._failures, self._failure = {}, [], None
        self._attempt, self._state = 0, "gathering"
        self._deadline = time.monotonic() + timeout
        self._thread = threading.Thread(target=self._run, name="tfdist-coordinator", daemon=True)

    def start(self):
        """Starts to answer."""
        self._thread.start()

    def post(self, channel, message):
        """Takes a message of the node at `channel`, an object with `send(message)`."""
        self._inbox.put((channel, message))

    def join(self, timeout):
        """Waits until the run, if it started, is over and all nodes have been told."""
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self):
        try:
            self._decide()
        except Exception:
            # Without a coordinator the nodes would wait for ever.
            text = f"the launcher of node 0 is at fault:\n{traceback.format_exc()}"
            failure = {"text": text, "exit_code": 1, "rank": None, "tail": []}
            self._broadcast({"type": "over", "failure": failure, "restart": False})

    def _decide(self):
        answers = {
            "failed": self._on_failed,
            "ended": self._on_ended,
            "leaving": self._on_leaving,
            "broken": self._on_broken,
            "stopped": self._on_stopped,
            "lost": self._on_lost,
        }
        while self._state != "over":
            wait = None
            if self._deadline is not None:
                wait = max(0.0, self._deadline - time.monotonic())
            try:
                channel, message = self._inbox.get(timeout=wait)
            except queue.Empty:
                self._on_deadline()
                continue
            if message["type"] == "join" and terms.is_join(message):
                self._on_join(channel, message)
                continue
            rank = next((r for r, node in self._nodes.items() if node.channel is channel), None)
            # A stranger, or news of an attempt that is over.
            if rank is None or message.get("attempt", self._attempt) != self._attempt:
                continue
            answers[message["type"]](rank, message)

    # Gathering: until every node has joined.

    def _on_join(self, channel, message):
        rank = message["node_rank"]
        known = self._nodes.get(rank)
        taken_by = known if known is not None and known.channel is not channel else None
        complaint = terms.complaint(self._terms, message, taken_by)
        if complaint:
            # A wrong command line does not come good by waiting: tell everybody.
            _send(channel, {"type": "refused", "reason": complaint, "exit_code": 2})
            if self._attempt == 0:
                self._refuse(complaint, 2)
            return
        address = message["address"]
        self._nodes[rank] = _Node(channel, message["hostname"], address, message["ports"])
        if len(self._nodes) == self._nnodes and all(n.ports for n in self._nodes.values()):
            self._start()

    def _start(self):
        cluster, first_ranks = [], {}
        for rank in sorted(self._nodes):
            node = self._nodes[rank]
            first_ranks[rank] = len(cluster)
            host = f"[{node.address}]" if ":" in node.address else node.address
            cluster += [f"{host}:{port}" for port in node.ports]
        self._state, self._deadline = "running", None
        self._failures, self._failure = [], None
        for rank, node in self._nodes.items():
            message = {"type": "start", "attempt": self._attempt, "cluster": cluster}
            _send(node.channel, message | {"first_rank": first_ranks[rank]})

    # Running: until all have ended or one has failed.

    def _on_failed(self, rank, message):
        who = name_of(message["rank"], self._parameter_servers) + self._of(rank)
        self._fail(
            _Failure(
                code=message["code"],
                time=time.monotonic() - message["age_s"],
                rank=message["rank"],
                text=f"{who} {how_it_failed(message['code'])}",
            )
        )

    def _on_ended(self, rank, _):
        self._nodes[rank].ended = True
        if self._state == "running" and all(node.ended for node in self._nodes.values()):
            self._broadcast({"type": "over", "failure": None, "restart": False})
            self._state = "over"

    def _on_leaving(self, rank, message):
        code = -message["signal"]
        text = f"node {rank}{self._host(rank)} was told to stop by {signal.Signals(-code).name}"
        self._fail(_Failure(code, 0.0, None, text, can_restart=False), at_once=True)

    def _on_broken(self, rank, message):
        text = f"node {rank}{self._host(rank)} could not start its workers: {message['reason']}"
        self._fail(_Failure(1, 0.0, None, text, can_restart=False), at_once=True)

    def _on_lost(self, rank, message):
        node = self._nodes[rank]
        if self._state == "gathering" and self._attempt == 0:
            del self._nodes[rank]  # nothing has started: it may come again
            return
        node.stopped = node.lost = True
        if node.ended:
            return
        text = f"node {rank}{self._host(rank)} was lost: {message['reason']}"
        # Its workers die with its launcher and their peers' connections break:
        # like a death by signal, the loss may be seen after what it caused.
        earlier = time.monotonic() - SETTLE_S
        self._fail(_Failure(1, earlier, None, text, can_restart=False))
        self._finish_when_stopped()

    def _fail(self, failure, at_once=False):
        if self._state == "stopping" and not failure.can_restart:
            self._failure["can_restart"] = False
        if self._state not in ("gathering", "running", "settling"):
            return
        self._failures.append(failure)
        if at_once or self._state == "gathering":
            self._stop()
        elif self._state == "running":
            self._state, self._deadline = "settling", time.monotonic() + SETTLE_S

    # Stopping: until every node's workers are gone.

    def _stop(self):
        failure = culprit(self._failures)
        self._failure = {
            "text": failure.text,
            "exit_code": shell_code(failure.code),
            "rank": failure.rank,
            "tail": [],
            "can_restart": failure.can_restart and all(f.can_restart for f in self._failures),
        }
        self._state, self._deadline = "stopping", time.monotonic() + STOP_DEADLINE_S
        self._broadcast({"type": "stop", "attempt": self._attempt, "failure": self._failure})
        self._finish_when_stopped()

    def _on_stopped(self, rank, message):
        self._nodes[rank].stopped = True
        if self._failure and message["tail"]:
            self._failure["tail"] = message["tail"]
        self._finish_when_stopped()

    def _finish_when_stopped(self):
        if self._state == "stopping" and all(node.stopped for node in self._nodes.values()):
            self._finish()

    def _finish(self):
        ready = all(node.stopped and not node.lost for node in self._nodes.values())
        restart = self._failure["can_restart"] and ready and self._attempt < self._max_restarts
        self._broadcast({"type": "over", "failure": self._failure, "restart": restart})
        if not restart:
            self._state = "over"
            return
        self._attempt += 1
        self._state, self._deadline = "gathering", time.monotonic() + self._timeout
        for node in self._nodes.values():
            node.ports, node.ended, node.stopped = [], False, False

    # Deadlines and words.

    def _on_deadline(self):
        if self._state == "settling":
            self._stop()
        elif self._state == "stopping":
            self._finish()
        elif self._state == "gathering":
            missing = [r for r in range(self._nnodes) if not self._ports_of(r)]
            names = ", ".join(map(str, missing))
            reason = (
                f"node{'s' if len(missing) > 1 else ''} {names} of {self._nnodes} did not come to "
                f"{self._where} within {self._timeout:g} s"
            )
            self._refuse(reason, 1)

    def _ports_of(self, rank):
        return rank in self._nodes and self._nodes[rank].ports

    def _refuse(self, reason, exit_code):
        if self._state != "gathering":
            return
        self._broadcast({"type": "refused", "reason": reason, "exit_code": exit_code})
        self._state = "over"

    def _broadcast(self, message):
        for node in self._nodes.values():
            _send(node.channel, message)

    def _of(self, rank):
        return "" if self._nnodes == 1 else f" on node {rank}{self._host(rank)}"

    def _host(self, rank):
        node = self._nodes[rank]
        name = node.hostname
        return f" ({name})" if name == node.address else f" ({name}, {node.address})"


def _send(channel, message):
    """Sends; a connection that is gone is reported by its own "lost" message."""
    with contextlib.suppress(OSError):
        channel.send(message)
