"""Reduces and gathers NumPy arrays over the workers of a job, through TCP.

TensorFlow's collectives between CPUs wrap each tensor into protocol buffers and
gRPC messages; on two workers of one machine they move 0.2 GB/s where plain
sockets move 2 GB/s. So workers without accelerators hold a connection to each
other and exchange the bytes themselves.

**All-reduce.** Large messages: reduce-scatter and all-gather around the ring of
workers (Patarasu and Yuan 2009), 2 (N-1) / N times the message from each worker.
Small ones: everybody sends all to everybody and adds up in the order of the
workers. Either way each sum is computed in one order, so that the results are the
same bits on all workers.

Faults and limits are those of `connections`.
"""

import numpy as np

from tfdist.sync.buffers import Buffers
from tfdist.sync.connections import Connections

_OPS = {"sum": np.add, "max": np.maximum, "min": np.minimum}

_DIRECT_BYTES = 64 * 2**10  # messages up to this size take the way of least latency


class Ring(Connections):
    """The `Connections` of one worker to all others, and what workers compute over them."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._buffers = Buffers()

    def all_reduce(self, arrays, members=None, op="sum"):
        """Reduces each array over all workers, or over a group of them.

        Args:
            arrays: list of arrays of one numeric dtype; the same shapes on all workers.
            members: ascending list of the indices of this worker's group, itself
                included; None for all. Groups of one call must not overlap; a worker
                that is alone in its group must call, too, and sends nothing.
            op: "sum", "max" or "min"; NaN where a worker has NaN.

        Returns:
            A list of arrays like `arrays`; the same bits on all workers of a group.

        Raises:
            ConnectionError: a worker was lost, or makes another call.
            TimeoutError: `abort` was called, or a worker did not answer.
        """
        members = list(range(self.size)) if members is None else list(members)
        flat, parts = self._buffers.flatten(arrays)
        with self.call(flat.nbytes, arrays, op) as exchange, np.errstate(all="ignore"):
            if flat.nbytes <= _DIRECT_BYTES:
                self._reduce_directly(flat, exchange, members, _OPS[op])
            else:
                self._reduce_around_the_ring(flat, exchange, members, _OPS[op])
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
            for peer in self.peers
        }
        incoming = {peer: [np.empty_like(array) for array in mine] for peer in self.peers}
        with self.call(sum(array.nbytes for array in mine), mine) as exchange:
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
        with self.call(len(arrays), ()) as exchange:
            exchange(
                {peer: [lengths] for peer in self.peers},
                {peer: [everyones[peer]] for peer in self.peers},
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
                dict.fromkeys(self.peers, arrays),
                {peer: gathered[peer] for peer in self.peers},
            )
        return gathered

    # -- algorithms -----------------------------------------------------------

    def _reduce_directly(self, flat, exchange, members, reduce):
        received = {peer: np.empty_like(flat) for peer in members if peer != self.index}
        incoming = {peer: [received[peer]] for peer in received}
        exchange({peer: [flat] for peer in incoming}, incoming)
        received[self.index] = flat.copy()
        total = received[members[0]]
        for worker in members[1:]:
            reduce(total, received[worker], out=total)
        flat[...] = total

    def _reduce_around_the_ring(self, flat, exchange, members, reduce):
        size, index = len(members), members.index(self.index)
        following, previous = members[(index + 1) % size], members[index - 1]
        chunk = -(-len(flat) // size)
        chunks = [flat[i * chunk : (i + 1) * chunk] for i in range(size)]
        received = self._buffers.take(flat.dtype, chunk)
        for step in range(size - 1):
            mine, theirs = chunks[(index - step) % size], chunks[(index - step - 1) % size]
            incoming = received[: len(theirs)]
            exchange({following: [mine]}, {previous: [incoming]})
            reduce(theirs, incoming, out=theirs)
        for step in range(size - 1):
            mine, theirs = chunks[(index - step + 1) % size], chunks[(index - step) % size]
            exchange({following: [mine]}, {previous: [theirs]})
