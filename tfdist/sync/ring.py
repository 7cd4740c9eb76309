"""Sums and gathers NumPy arrays over the workers of a job, through TCP.

TensorFlow's collectives between CPUs wrap each tensor into protocol buffers and
gRPC messages; on two workers of one machine they move 0.2 GB/s where plain
sockets move 2 GB/s. So workers without accelerators hold a connection to each
other and exchange the bytes themselves.

**All-reduce.** Large messages: reduce-scatter and all-gather around the ring of
workers (Patarasu and Yuan 2009), 2 (N-1) / N times the message from each worker.
Small ones: everybody sends all to everybody and adds up in the order of the
workers. Either way each sum is computed in one order, so that the results are the
same bits on all workers.

**Faults.** A peer that ends closes its connections, which the others notice at
once. One that is silent is the business of whoever calls `abort` (the watchdog of
a strategy), or, while a call waits, of `health`. After an error the streams are
out of step: the ring is broken, and each later call raises the same error.

Limits: all workers must make the same calls in the same order, one at a time.
Connections are neither authenticated (but for a token that keeps strays away) nor
encrypted, like TensorFlow's own.
"""

import itertools
import select
import struct
import sys
import threading
import time
import zlib

import numpy as np

_ALIGNMENT = 64  # bytes; TensorFlow takes aligned arrays over without a copy
_DIRECT_BYTES = 64 * 2**10  # messages up to this size take the way of least latency
_CHUNK_BYTES = 2**20  # for one call of send
_POLL_S = 1.0
_ENDING_S = 0.1  # a process that ends closes its connections one after the other
# macOS and Windows have no POLLRDHUP: there, a peer that closed may be found later.
_HANGS_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
_HEADER = struct.Struct("<4sIQI")
_MAGIC = b"tfd1"


class Ring:
    """The connections of one worker to all others.

    Args:
        index: this worker's index.
        sockets: dict from each other worker's index to a connected socket.
        names: list of how errors call the workers, by index.
        deadline: seconds without a byte after which a call gives up.
        health: called each second while a call waits; returns what is wrong with
            the job, as a sentence, or None.

    Attributes:
        error: what broke the ring, an exception, or None.
        bytes_sent: payload and framing that this worker has sent so far.
        seconds: what its calls took so far, waiting for other workers included.
    """

    def __init__(self, index, sockets, names, deadline=600.0, health=None):
        self.index, self.size = index, len(sockets) + 1
        self.error = None
        self.bytes_sent, self.seconds = 0, 0.0
        self._sockets, self._names = sockets, names
        self._deadline, self._health = deadline, health
        self._calls = itertools.count()
        self._lock = threading.Lock()
        self._buffers = _Buffers()

    def all_reduce(self, arrays, members=None):
        """Sums each array over all workers, or over a group of them.

        Args:
            arrays: list of arrays of one numeric dtype; the same shapes on all workers.
            members: ascending list of the indices of this worker's group, itself
                included; None for all. Groups of one call must not overlap; a worker
                that is alone in its group must call, too, and sends nothing.

        Returns:
            A list of arrays like `arrays`; the same bits on all workers of a group.

        Raises:
            ConnectionError: a worker was lost, or makes another call.
            TimeoutError: `abort` was called, or a worker did not answer.
        """
        members = list(range(self.size)) if members is None else list(members)
        flat, parts = self._buffers.flatten(arrays)
        with self._call(flat.nbytes, arrays) as exchange, np.errstate(all="ignore"):
            if flat.nbytes <= _DIRECT_BYTES:
                self._reduce_directly(flat, exchange, members)
            else:
                self._reduce_around_the_ring(flat, exchange, members)
        return parts

    def all_to_all(self, arrays_by_worker):
        """Gives each worker arrays of its own.

        Args:
            arrays_by_worker: list, by worker, of what it is sent: a list of arrays;
                the same shapes and dtypes for all workers and on all workers.

        Returns:
            A list, by worker, of what it sent: lists of arrays.

        Raises:
            As `all_reduce`.
        """
        mine = [np.asarray(array, order="C") for array in arrays_by_worker[self.index]]
        outgoing = {
            peer: [np.asarray(array, order="C") for array in arrays_by_worker[peer]]
            for peer in self._sockets
        }
        incoming = {peer: [np.empty_like(array) for array in mine] for peer in self._sockets}
        with self._call(sum(array.nbytes for array in mine), mine) as exchange:
            exchange(outgoing, incoming)
        return [incoming.get(worker, mine) for worker in range(self.size)]

    def all_gather(self, arrays):
        """Gives every worker the arrays of all.

        Args:
            arrays: list of arrays. Their dtypes and all dimensions but the first
                must be the same on all workers.

        Returns:
            A list, by worker, of lists like `arrays`.

        Raises:
            As `all_reduce`.
        """
        arrays = [np.ascontiguousarray(array) for array in arrays]
        lengths = np.array([len(array) for array in arrays], np.int64)
        everyones = [np.empty_like(lengths) for _ in range(self.size)]
        everyones[self.index] = lengths
        with self._call(len(arrays), ()) as exchange:
            exchange(
                {peer: [lengths] for peer in self._sockets},
                {peer: [everyones[peer]] for peer in self._sockets},
            )
            gathered = [
                arrays
                if worker == self.index
                else [
                    np.empty((int(length), *array.shape[1:]), array.dtype)
                    for length, array in zip(everyones[worker], arrays)
                ]
                for worker in range(self.size)
            ]
            exchange(
                dict.fromkeys(self._sockets, arrays),
                {peer: gathered[peer] for peer in self._sockets},
            )
        return gathered

    def abort(self, message):
        """Ends the present call, and all later ones, with a `TimeoutError` that says `message`."""
        if self.error is None:
            self.error = TimeoutError(message)

    def close(self):
        """Closes the connections."""
        for socket in self._sockets.values():
            socket.close()

    # -- algorithms -----------------------------------------------------------

    def _reduce_directly(self, flat, exchange, members):
        received = {peer: np.empty_like(flat) for peer in members if peer != self.index}
        incoming = {peer: [received[peer]] for peer in received}
        exchange({peer: [flat] for peer in incoming}, incoming)
        received[self.index] = flat.copy()
        total = received[members[0]]
        for worker in members[1:]:
            np.add(total, received[worker], out=total)
        flat[...] = total

    def _reduce_around_the_ring(self, flat, exchange, members):
        size, index = len(members), members.index(self.index)
        following, previous = members[(index + 1) % size], members[index - 1]
        chunk = -(-len(flat) // size)
        chunks = [flat[i * chunk : (i + 1) * chunk] for i in range(size)]
        received = self._buffers.take(flat.dtype, chunk)
        for step in range(size - 1):
            mine, theirs = chunks[(index - step) % size], chunks[(index - step - 1) % size]
            incoming = received[: len(theirs)]
            exchange({following: [mine]}, {previous: [incoming]})
            np.add(theirs, incoming, out=theirs)
        for step in range(size - 1):
            mine, theirs = chunks[(index - step + 1) % size], chunks[(index - step) % size]
            exchange({following: [mine]}, {previous: [theirs]})

    # -- the wire ---------------------------------------------------------------

    def _call(self, size, arrays):
        shapes = ",".join(f"{a.shape}{a.dtype}" for a in arrays)
        header = _HEADER.pack(_MAGIC, next(self._calls) % 2**32, size, zlib.crc32(shapes.encode()))
        return _Call(self, header)

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
                    f"{self._names[peer]} makes another call than {self._names[self.index]}: its "
                    f"message begins with {bytes(queue.header).hex()}, expected {header.hex()}. "
                    "All workers must run the same steps in the same order."
                )
        return progress

    def _lost(self, peer, why):
        # Whoever loses a worker ends soon, too: name all that are gone, or the
        # second of them would be blamed for the first.
        gone = dict.fromkeys(self._closed(), "it closed the connection") | {peer: why}
        lost = "; ".join(f"{self._names[p]} was lost: {why}" for p, why in sorted(gone.items()))
        return ConnectionResetError(lost)

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
        problem = self._health() if self._health is not None else None
        if problem is not None:
            raise ConnectionResetError(f"{problem}, while waiting for {names}")
        if time.monotonic() - last_news > self._deadline:
            raise TimeoutError(f"{names} did not answer within {self._deadline:g} s")


class _Call:
    """One call: alone on the ring, and the ring is broken if it fails."""

    def __init__(self, ring, header):
        self._ring, self._header = ring, header

    def __enter__(self):
        self._ring._lock.acquire()
        if self._ring.error is not None:
            self._ring._lock.release()
            raise self._ring.error
        self._began = time.perf_counter()
        return lambda sends, receives: self._ring._exchange(sends, receives, self._header)

    def __exit__(self, _, error, __):
        if error is not None and self._ring.error is None:
            self._ring.error = error
        self._ring.seconds += time.perf_counter() - self._began
        self._ring._lock.release()


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


class _Buffers:
    """Memory that is used again once nobody refers to it: fresh pages cost as much as the wire."""

    _KEPT = 3  # for each size

    def __init__(self):
        self._kept = {}

    def flatten(self, arrays):
        """Copies arrays of one dtype into one; returns it, and views of it like `arrays`."""
        dtype = arrays[0].dtype
        step = max(1, _ALIGNMENT // dtype.itemsize)
        begins = [0]
        for array in arrays:
            begins.append(begins[-1] + -(-array.size // step) * step)
        flat = self.take(dtype, begins[-1])
        parts = []
        for begin, end, array in zip(begins, begins[1:], arrays):
            part = flat[begin : begin + array.size]
            part[...] = array.reshape(-1)
            flat[begin + array.size : end] = 0
            parts.append(part.reshape(array.shape))
        return flat, parts

    def take(self, dtype, size):
        """An uninitialized array that is nobody's."""
        nbytes = size * dtype.itemsize
        kept = self._kept.setdefault(nbytes, [])
        for memory in kept:
            # References: the list, `memory`, the argument. Views add one each.
            if sys.getrefcount(memory) <= 3:
                return _aligned(memory, dtype, nbytes)
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        if len(kept) < self._KEPT:
            kept.append(memory)
        return _aligned(memory, dtype, nbytes)


def _aligned(memory, dtype, nbytes):
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + nbytes].view(dtype)
