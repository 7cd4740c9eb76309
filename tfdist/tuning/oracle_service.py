"""One oracle for a search of several workers: KerasTuner's own service, on worker 0.

KerasTuner is told by environment variables that read `chief` or the name of a tuner who a
process is. Here worker 0 is both: the chief serves in a thread, and reads them first. What
KerasTuner lacks is added by files in the directory of the search, which all workers share:
the port, which is free for certain; a sign of life of each worker, so that nobody waits for
one that is gone; and the results, for all.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import socket
import threading
import time

_NAMES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
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
        # Of this start of the workers: another one has other ports.
        run = hashlib.sha256(" ".join(cluster.addresses).encode()).hexdigest()[:12]
        self._files = pathlib.Path(directory) / "workers" / run
        self._files.mkdir(parents=True, exist_ok=True)
        self._rank, self._workers = cluster.index, len(cluster.addresses)
        self._addresses = cluster.addresses
        self._stop = threading.Event()

    def __enter__(self):
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
        self._write("oracle.json", {"host": host, "port": port})
        return chief

    def find(self):
        """Waits for worker 0's oracle; returns its host and port."""
        found = self._wait_for("oracle.json", _START_S, "has not started the oracle of the search")
        return found["host"], found["port"]

    def done(self):
        """Tells the others that this worker runs no more trials."""
        self._write(f"done-{self._rank}.json", {})

    def wait_for_all(self):
        """Waits, on worker 0, until no worker runs trials any more."""
        for rank in range(self._workers):
            self._wait_for(f"done-{rank}.json", None, "has not ended its trials", rank)

    def publish(self, results):
        """Gives all workers the results; worker 0 calls it."""
        self._write("results.json", results)

    def read(self):
        """Waits for the results that worker 0 publishes."""
        return self._wait_for("results.json", None, "has not published the results")

    def _wait_for(self, name, seconds, what, rank=0):
        """The content of a file of worker `rank`, when it is there.

        Raises:
            TimeoutError: it did not come in `seconds`, or its worker shows no sign of life.
        """
        begin = time.monotonic()
        while True:
            with contextlib.suppress(FileNotFoundError):
                return json.loads((self._files / name).read_text())
            waited = time.monotonic() - begin
            silent = min(self._silence_of(rank), waited)
            if silent > _SILENCE_S or (seconds is not None and waited > seconds):
                raise TimeoutError(
                    f"worker {rank} ({self._addresses[rank]}) {what} in {waited:.0f} s, and gave "
                    f"no sign of life for {silent:.0f} s. See its output; a search that is "
                    "started again goes on where it was."
                )
            time.sleep(0.1)

    def _silence_of(self, rank):
        with contextlib.suppress(FileNotFoundError):
            return time.time() - (self._files / f"alive-{rank}").stat().st_mtime
        return float("inf")

    def _live(self):
        while True:
            (self._files / f"alive-{self._rank}").touch()
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

    def _write(self, name, content):
        partial = self._files / f".{name}.{self._rank}"
        partial.write_text(json.dumps(content))
        partial.replace(self._files / name)


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
