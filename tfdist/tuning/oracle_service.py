"""One oracle for a search of several workers: KerasTuner's own service, on worker 0.

KerasTuner is told by environment variables that read `chief` or the name of a tuner who a
process is. Here worker 0 is both: the chief serves in a thread, and reads them first. What
KerasTuner lacks is added by files in the directory of the search, which all workers share:
the port, which is free for certain; a heartbeat of each worker, so that no other waits for
one that is gone; and the results, for all.
"""

import contextlib
import json
import os
import pathlib
import socket
import threading
import time
import uuid

_NAMES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
_ORACLE, _RESULTS = "oracle.json", "results.json"
_START_S = 300.0
_BEAT_S = 2.0
_SILENCE_S = 60.0


class OracleService:
    """What the workers of one search know of each other.

    Args:
        directory: str; the directory of the search.
        cluster: the `tfdist.tf_config.Cluster` of the workers.
    """

    def __init__(self, directory, cluster):
        self._common = pathlib.Path(directory) / "workers"
        self._common.mkdir(parents=True, exist_ok=True)
        self._files = None  # of this start of the workers: the oracle's file says where
        self._rank, self._workers = cluster.index, len(cluster.addresses)
        self._addresses = cluster.addresses
        self._heard = {}  # rank: (its file's time, when that was seen first, whether it changed)
        self._stop = threading.Event()

    def __enter__(self):
        if self._rank == 0:
            # Before the first heartbeat: what an earlier start left is then gone for all.
            (self._common / _ORACLE).unlink(missing_ok=True)
        self._beat = threading.Thread(target=self._live, daemon=True)
        self._beat.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._beat.join()

    def serve(self, make_tuner):
        """Starts the chief's thread, on worker 0.

        Args:
            make_tuner: returns a KerasTuner tuner.

        Returns:
            The chief's tuner.
        """
        host = self._addresses[0].rpartition(":")[0].strip("[]")
        with socket.socket() as held:
            # gRPC shares a port that another socket of the same user holds so.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((host, 0))
            port = held.getsockname()[1]
            with environment("chief", host, port):
                chief = make_tuner()
                threading.Thread(target=chief.search, kwargs={"verbose": 0}, daemon=True).start()
                self._wait_for_server(host, port)
        run = uuid.uuid4().hex
        (self._common / run).mkdir()
        _write(self._common / _ORACLE, {"host": host, "port": port, "run": run})
        return chief

    def find(self):
        """Waits for worker 0's oracle; returns its host and port."""
        # Its file could be one of an earlier start until worker 0 has shown that it lives.
        self._wait_for(lambda: self._beats(0), _START_S, "has not started")
        path = self._common / _ORACLE
        found = self._wait_for(lambda: _read(path), _START_S, "has not started the oracle")
        self._files = self._common / found["run"]
        return found["host"], found["port"]

    def done(self):
        """Tells the others that this worker runs no more trials."""
        _write(self._files / f"done-{self._rank}.json", {"rank": self._rank})

    def wait_for_all(self):
        """Waits, on worker 0, until no worker runs trials any more."""
        for rank in range(self._workers):
            path = self._files / f"done-{rank}.json"
            self._wait_for(lambda path=path: _read(path), None, "has not ended its trials", rank)

    def publish(self, results):
        """Gives all workers the results; worker 0 calls it."""
        _write(self._files / _RESULTS, {"results": results})

    def read(self):
        """Waits for the results that worker 0 publishes."""
        path = self._files / _RESULTS
        return self._wait_for(lambda: _read(path), None, "has not published the results")["results"]

    def _wait_for(self, look, seconds, what, rank=0):
        """What `look()` returns, as soon as that is true; worker `rank` is to make it so.

        Raises:
            TimeoutError: it did not in `seconds`, or its worker sends no heartbeat.
        """
        begin = time.monotonic()
        while True:
            found = look()
            if found:
                return found
            self._beats(rank)
            now = time.monotonic()
            waited, silent = now - begin, now - max(self._heard[rank][1], begin)
            if silent > _SILENCE_S or (seconds is not None and waited > seconds):
                raise TimeoutError(
                    f"worker {rank} ({self._addresses[rank]}) {what} in {waited:.0f} s, and sent "
                    f"no heartbeat for {silent:.0f} s. See its output; a search that is "
                    "started again goes on where it was."
                )
            time.sleep(0.1)

    def _beats(self, rank):
        """Whether worker `rank` has sent a heartbeat since it was looked at first.

        By changes of a file's time: clocks of machines differ.
        """
        try:
            latest = (self._common / f"alive-{rank}").stat().st_mtime_ns
        except FileNotFoundError:
            latest = None
        if rank not in self._heard:
            self._heard[rank] = latest, time.monotonic(), False
        elif latest != self._heard[rank][0]:
            self._heard[rank] = latest, time.monotonic(), True
        return self._heard[rank][2]

    def _live(self):
        while True:
            (self._common / f"alive-{self._rank}").touch()
            if self._stop.wait(_BEAT_S):
                return

    def _wait_for_server(self, host, port):
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), timeout=1.0).close()
                return
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"The oracle of the search does not listen on {host}:{port} after "
                    f"{_START_S:.0f} s."
                )
            time.sleep(0.1)


def _read(path):
    """The content of a JSON file, or None where there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def _write(path, content):
    """Writes a JSON file whole or not at all."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(content))
    partial.replace(path)


@contextlib.contextmanager
def environment(tuner, host, port):
    """KerasTuner's variables, for the process to be `tuner` meanwhile."""
    before = {name: os.environ.get(name) for name in _NAMES}
    os.environ.update(zip(_NAMES, (tuner, host, str(port))))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
