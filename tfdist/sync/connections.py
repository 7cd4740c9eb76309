"""Exchanges NumPy arrays between the workers of a job, through TCP.

**Faults.** A peer that ends closes its connections, which the others notice at
once. One that is silent is the business of whoever calls `abort` (the watchdog of
a strategy), or, while a call waits, of `health`. After an error the streams are
out of step: the connections are of no more use, and each later call raises the
same error.

Limits: all workers must make the same calls in the same order, one at a time.
Connections are neither authenticated (but for a token that keeps strays away) nor
encrypted, like TensorFlow's own.
"""

import itertools
import select
import struct
import threading
import time
import zlib

import numpy as np

_CHUNK_BYTES = 2**20  # for one call of send
_POLL_S = 1.0
_ENDING_S = 0.1  # a process that ends closes its connections one after the other
# macOS and Windows have no POLLRDHUP: there, a peer that closed may be found later.
_HANGS_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
_HEADER = struct.Struct("<4sIQI")
_MAGIC = b"tfd1"


class WorkersLost(ConnectionResetError):
    """Other workers are gone.

    Args:
        lost: list of pairs `(name, why)`.
        waiting_for: str, the names of the workers that a call waited for; "" where it
            waited for those that are lost.
    """

    def __init__(self, lost, waiting_for=""):
        self._lost, self._waiting_for = lost, waiting_for
        super().__init__(self.text())

    def text(self, during=""):
        """The sentence, with the call that `during` names."""
        during = f" during {during}" if during else ""
        lost = "; ".join(f"{name} was lost{during}: {why}" for name, why in self._lost)
        return f"{lost}, while waiting for {self._waiting_for}" if self._waiting_for else lost


class Connections:
    """The connections of one worker to all others.

    Args:
        index: this worker's index.
        sockets: dict from each other worker's index to a connected socket.
        names: list of how errors call the workers, by index.
        deadline: seconds without a byte after which a call gives up.
        health: called each second while a call waits; returns which workers are lost, as a
            list of pairs `(name, why)`.

    Attributes:
        peers: list of the other workers' indices.
        error: what broke a call, an exception, or None.
        bytes_sent: payload and framing that this worker has sent so far.
        seconds: what its calls took so far, waiting for other workers included.
    """

    def __init__(self, index, sockets, names, deadline=600.0, health=None):
        self.index, self.size = index, len(sockets) + 1
        self.peers = list(sockets)
        self.error = None
        self.bytes_sent, self.seconds = 0, 0.0
        self._sockets, self._names = sockets, names
        self._deadline, self._health = deadline, health
        self._calls = itertools.count()
        self._lock = threading.Lock()

    def call(self, size, arrays, kind=""):
        """A context that is one call of all workers.

        Args:
            size: int, the same on all workers that make the same call.
            arrays: list of arrays; their shapes and dtypes are, too.
            kind: str, as are the words for what is done with them.

        Returns:
            A context manager that gives `exchange(sends, receives)`: two dicts, from the
            index of a worker to a list of arrays to send it, and to fill with what it sends.
        """
        shapes = ",".join([kind, *(f"{a.shape}{a.dtype}" for a in arrays)])
        header = _HEADER.pack(_MAGIC, next(self._calls) % 2**32, size, zlib.crc32(shapes.encode()))
        return _Call(self, header)

    def abort(self, message):
        """Ends the present call, and all later ones, with a `TimeoutError` that says `message`."""
        if self.error is None:
            self.error = TimeoutError(message)

    def close(self):
        """Closes the connections."""
        for socket in self._sockets.values():
            socket.close()

    def _exchange(self, sends, receives, header):
        """Sends and receives lists of arrays, each list to or from one worker, all at once."""
        outgoing = {peer: _Queue(header, views) for peer, views in sends.items()}
        incoming = {peer: _Queue(bytearray(len(header)), views) for peer, views in receives.items()}
        poll, by_descriptor = select.poll(), {}
        for peer in {*outgoing, *incoming}:
            by_descriptor[self._sockets[peer].fileno()] = peer
        last_news = time.monotonic()
        while True:
            progress = False
            for peer, queue in list(outgoing.items()):
                progress |= self._send(peer, queue)
                if queue.done:
                    del outgoing[peer]
            for peer, queue in list(incoming.items()):
                progress |= self._receive(peer, queue, header)
                if queue.done:
                    del incoming[peer]
            if not outgoing and not incoming:
                return
            if progress:
                last_news = time.monotonic()
            for descriptor, peer in by_descriptor.items():
                events = select.POLLOUT if peer in outgoing else 0
                events |= select.POLLIN if peer in incoming else 0
                poll.register(descriptor, events)
            if not poll.poll(1000 * _POLL_S):
                self._check_patience(last_news, {*outgoing, *incoming})
            if self.error is not None:
                raise self.error

    def _send(self, peer, queue):
        progress = False
        while not queue.done:
            try:
                count = self._sockets[peer].send(queue.head[:_CHUNK_BYTES])
            except BlockingIOError:
                break
            except OSError as error:
                raise self._lost(peer, error.strerror) from None
            queue.advance(count)
            self.bytes_sent += count
            progress = True
        return progress

    def _receive(self, peer, queue, header):
        progress = False
        while not queue.done:
            try:
                count = self._sockets[peer].recv_into(queue.head)
            except BlockingIOError:
                break
            except OSError as error:
                raise self._lost(peer, error.strerror) from None
            if count == 0:
                raise self._lost(peer, "it closed the connection")
            progress = True
            if queue.advance(count) and bytes(queue.header) != header:
                raise ConnectionError(
                    f"{self._names[peer]} makes a different call from {self._names[self.index]}: "
                    f"its message begins with {bytes(queue.header).hex()}, expected "
                    f"{header.hex()}. All workers must run the same steps in the same order."
                )
        return progress

    def _lost(self, peer, why):
        # Whoever loses a worker ends soon, too: name all that are gone, or the
        # second of them would be blamed for the first.
        gone = dict.fromkeys(self._closed(), "it closed the connection") | {peer: why}
        return WorkersLost([(self._names[p], why) for p, why in sorted(gone.items())])

    def _closed(self):
        """The peers that have closed their connections, whatever they sent before."""
        time.sleep(_ENDING_S)
        poll, peers = select.poll(), {}
        for peer, socket in self._sockets.items():
            peers[socket.fileno()] = peer
            poll.register(socket, _HANGS_UP)
        return [peers[descriptor] for descriptor, events in poll.poll(0) if events & _HANGS_UP]

    def _check_patience(self, last_news, peers):
        names = ", ".join(self._names[peer] for peer in sorted(peers))
        lost = self._health() if self._health is not None else None
        if lost:
            raise WorkersLost(lost, waiting_for=names)
        if time.monotonic() - last_news > self._deadline:
            raise TimeoutError(f"{names} did not answer within {self._deadline:g} s")


class _Call:
    """One call: alone on the connections, which are of no more use if it fails."""

    def __init__(self, connections, header):
        self._connections, self._header = connections, header

    def __enter__(self):
        self._connections._lock.acquire()
        if self._connections.error is not None:
            self._connections._lock.release()
            raise self._connections.error
        self._began = time.perf_counter()
        return lambda sends, receives: self._connections._exchange(sends, receives, self._header)

    def __exit__(self, _, error, __):
        if error is not None and self._connections.error is None:
            self._connections.error = error
        self._connections.seconds += time.perf_counter() - self._began
        self._connections._lock.release()


class _Queue:
    """A header and arrays as bytes, of which the first are sent or received already."""

    def __init__(self, header, arrays):
        self.header = header
        self._parts = [memoryview(header)]
        self._parts += [memoryview(a.reshape(-1).view(np.uint8)) for a in arrays if a.size]
        self._at, self.head = 0, self._parts[0]

    @property
    def done(self):
        return self._at == len(self._parts)

    def advance(self, count):
        """Notes that `count` bytes of `head` are through; returns whether the header ended."""
        self.head = self.head[count:]
        if self.head:
            return False
        self._at += 1
        if not self.done:
            self.head = self._parts[self._at]
        return self._at == 1
