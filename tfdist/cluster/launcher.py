"""What `tfdist run` does on one machine: a gang of workers, from start to exit code.

Every run has a coordinator, which decides (see `coordinator`). On one machine it
is a thread of this process; on several, of node 0's launcher, and the others
reach it over the network (see `meeting`). The launcher itself only does what
it is told: it reserves ports, starts its gang, reports exits and ends the gang.
"""

import collections
import dataclasses
import queue
import signal
import socket
import threading
import time

import tfdist
from tfdist.cluster.coordinator import STOP_DEADLINE_S
from tfdist.cluster.environment import (
    divide_cores,
    name_of,
    usable_cores,
    worker_environment,
)
from tfdist.cluster.gang import Gang, WorkerCommand, how_it_failed
from tfdist.cluster.gpus import gpu_environments
from tfdist.cluster.inbox import take
from tfdist.cluster.meeting import meet
from tfdist.cluster.output import Screen
from tfdist.cluster.ports import holds_while_listening, reserve_ports
from tfdist.cluster.rendezvous import RendezvousError

_REVIVALS = 5  # how often a worker of parameter servers may be killed and start again


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What to run, and how.

    Attributes:
        argv: The command line of each worker.
        workers: How many of them on this machine.
        parameter_servers: How many parameter servers beside them, on node 0, whose first
            process then coordinates; 0 for workers alone.
        log_dir: A directory for `worker-<rank>.log`, or None.
        max_restarts: How often the gang is started again after a failure.
        nnodes: How many machines take part.
        node_rank: This machine's number among them.
        rendezvous: (host, port) where node 0 listens; needed for nnodes > 1.
        rendezvous_timeout: Seconds for all machines to come.
        bind_cores: Whether to divide this machine's cores among its workers.
        bind_gpus: Whether to divide this machine's GPUs among its workers.
    """

    argv: list
    workers: int = 2
    log_dir: str | None = None
    max_restarts: int = 0
    nnodes: int = 1
    node_rank: int = 0
    rendezvous: tuple | None = None
    rendezvous_timeout: float = 300.0
    bind_cores: bool = True
    bind_gpus: bool = True
    parameter_servers: int = 0

    @property
    def processes(self):
        """How many processes this machine starts."""
        coordinates = self.parameter_servers and self.node_rank == 0
        return self.workers + (1 + self.parameter_servers if coordinates else 0)


def launch(options, screen=None):
    """Runs the workers to their end.

    Args:
        options: A `RunOptions`.
        screen: Where the output goes; this process' stdout and stderr by default.

    Returns:
        The exit code that `tfdist run` documents.
    """
    return _Launcher(options, screen or Screen()).run()


class _Launcher:
    def __init__(self, options, screen):
        self._options, self._screen = options, screen
        # All that happens comes through here, as messages: from the coordinator,
        # from the gang ("exit") and from signal handlers ("signal").
        self._inbox = queue.SimpleQueue()
        self._gang, self._signal, self._meeting = None, None, None

    def run(self):
        previous = self._catch_signals()
        try:
            self._meeting = meet(self._options, self._inbox, self._pause)
            if self._meeting is None:
                return 128 + self._signal
            attempt = 0
            while True:
                code = self._attempt(attempt)
                if code is not None:
                    return code
                attempt += 1
        except RendezvousError as error:
            self._screen.say(f"tfdist run: {error}")
            return error.exit_code
        finally:
            if self._meeting is not None:
                self._meeting.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    # Signals

    def _catch_signals(self):
        if threading.current_thread() is not threading.main_thread():
            return {}  # Python allows handlers only there
        previous = {}
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # An ignored signal stays ignored, as under nohup.
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, self._on_signal)
        return previous

    def _on_signal(self, number, _):
        if self._signal is None:
            self._signal = int(number)
            self._inbox.put({"type": "signal"})
        elif self._gang is not None:
            self._gang.kill()  # asked twice: no grace

    def _pause(self, seconds):
        deadline = time.monotonic() + seconds
        while self._signal is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return self._signal is not None

    # One attempt

    def _attempt(self, attempt):
        """Runs the gang once; returns the exit code, or None to start it again."""
        options = self._options
        with reserve_ports(options.processes) as ports:
            self._meeting.send(
                {
                    "type": "join",
                    "version": tfdist.__version__,
                    "nnodes": options.nnodes,
                    "node_rank": options.node_rank,
                    "max_restarts": options.max_restarts,
                    "parameter_servers": options.parameter_servers,
                    "hostname": socket.gethostname(),
                    "address": self._meeting.address,
                    "ports": ports.numbers,
                }
            )
            if attempt == 0:
                self._meeting.open()
            try:
                with self._screen.waiting(f"tfdist run: {options.processes} workers are starting"):
                    return self._follow(attempt, ports)
            finally:
                if self._gang is not None:
                    self._gang.end()
                    self._gang = None

    def _follow(self, attempt, ports):
        left, stopped, waiting_until = self._options.processes, False, None
        self._revived = collections.Counter()
        while True:
            message = self._next(waiting_until)
            kind = message["type"]
            if kind == "start" and not stopped:
                self._start_gang(attempt, ports, message)
            elif kind == "exit" and message["attempt"] == attempt and not stopped:
                if left > 0 and self._revive(message["rank"], message["code"]):
                    continue
                left -= message["code"] == 0
                if left > 0 and message["code"] == 0 and self._name(message["rank"]) == "chief":
                    left = 0  # servers have nothing to do without it
                if left < 0 or (left == 0 and message["code"] != 0):
                    continue
                if message["code"] != 0:
                    age = time.monotonic() - message.pop("time")
                    self._meeting.send(message | {"type": "failed", "age_s": age})
                elif left == 0:
                    self._meeting.send({"type": "ended", "attempt": attempt})
            elif kind == "stop":
                stopped, waiting_until = True, time.monotonic() + 2 * STOP_DEADLINE_S
                self._stop_gang()
                tail = self._tail_of(message["failure"]["rank"])
                self._meeting.send({"type": "stopped", "attempt": attempt, "tail": tail})
            elif kind == "signal":
                # First the word, then the deed: the others' workers fail with ours.
                self._meeting.send({"type": "leaving", "signal": self._signal})
                self._stop_gang()
                self._meeting.send({"type": "stopped", "attempt": attempt, "tail": []})
                self._screen.say(
                    f"tfdist run was told to stop by {signal.Signals(self._signal).name}"
                )
                return 128 + self._signal
            elif kind == "over":
                return self._over(message, attempt)
            elif kind == "refused":
                raise RendezvousError(message["reason"], message["exit_code"])
            elif kind == "lost":
                self._stop_gang()
                self._screen.say(f"node 0 was lost: {message['reason']}")
                return 1

    def _next(self, waiting_until):
        try:
            return take(self._inbox, waiting_until)
        except queue.Empty:
            return {"type": "lost", "reason": "it did not say that the run is over"}

    def _start_gang(self, attempt, ports, message):
        options, cluster = self._options, message["cluster"]
        cores = divide_cores(usable_cores(), options.workers)
        if not options.bind_cores:
            cores = [None] * options.workers
        # The coordinator and parameter servers share all cores.
        others = options.processes - options.workers
        cores = [None] * others + cores
        gpus = [{}] * options.processes
        if options.bind_gpus:
            gpus, remark = gpu_environments(options.workers, others, options.parameter_servers)
            if remark and attempt == 0:
                self._screen.say(f"tfdist run: {remark}")
        first_rank = message["first_rank"]
        self._commands = {
            first_rank + local_rank: WorkerCommand(
                rank=first_rank + local_rank,
                argv=options.argv,
                environment=worker_environment(
                    cluster,
                    first_rank,
                    local_rank,
                    options.workers,
                    attempt,
                    options.parameter_servers,
                )
                | gpus[local_rank],
                cores=cores[local_rank],
                name=self._name(first_rank + local_rank),
            )
            for local_rank in range(options.processes)
        }
        if not holds_while_listening:
            ports.close()
        self._gang = Gang(
            self._screen,
            lambda one: self._inbox.put(
                {"type": "exit", "attempt": attempt, **dataclasses.asdict(one)}
            ),
            options.log_dir,
            append_logs=attempt > 0,
        )
        try:
            self._gang.start(list(self._commands.values()))
        except OSError as error:
            self._meeting.send({"type": "broken", "reason": str(error)})

    def _name(self, rank):
        return name_of(rank, self._options.parameter_servers)

    def _revive(self, rank, code):
        """Starts a worker again that a signal killed, where others train on without it."""
        name = self._name(rank)
        if not self._options.parameter_servers or not name.startswith("worker") or code >= 0:
            return False
        self._revived[rank] += 1
        if self._revived[rank] > _REVIVALS:
            return False
        self._screen.say(f"{name} {how_it_failed(code)}; starting it again, the others go on")
        self._gang.restart(self._commands[rank])
        return True

    def _stop_gang(self):
        if self._gang is not None:
            self._gang.end()

    def _tail_of(self, rank):
        return self._gang.tail(rank) if self._gang is not None and rank is not None else []

    def _over(self, message, attempt):
        failure = message["failure"]
        if failure is None:
            return 0
        if message["restart"]:
            self._screen.say(
                f"{failure['text']}; starting all workers again, "
                f"restart {attempt + 1} of {self._options.max_restarts}"
            )
            return None
        if failure["tail"]:
            lines = [f"{failure['text']}; its last output:", *failure["tail"]]
        elif failure["rank"] is not None:
            lines = [f"{failure['text']}; it printed nothing"]
        else:
            lines = [failure["text"]]
        self._screen.say("\n".join(lines))
        return failure["exit_code"]
