"""What replicas say to each other inside a step.

The `Communicator` of training (see `tfdist.sync.protocol`): it speaks from a
replica context, through the workers' own connections (`sync/ring.py`) where
the strategy has them, else through TensorFlow's collectives. All replicas must make
the same calls in the same order; a call that one of them leaves out makes the
others wait until the deadline.

Limits: through TensorFlow's collectives, `all_to_all`, `group_sum`, maxima and minima
gather from all replicas what only some of them need: exact, but nothing is saved on
the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfdist.sync import ring_ops
from tfdist.sync.protocol import check_op

if TYPE_CHECKING:
    from tfdist.sync.ring import Ring


class ReplicaCommunicator:
    """Collectives of the replica whose context is active; the methods are `Communicator`'s.

    Args:
        num_replicas: how many replicas take part.
        options: `tf.distribute.experimental.CommunicationOptions`, or None for
            those of the strategy.
        replica_id: scalar int tensor, this replica's index; None for a single one.
        ring: the `tfdist.sync.ring.Ring` between workers of one replica each, or None.
        gather: function of a tensor and options that stacks it over replicas through
            TensorFlow's collectives, or returns None where it cannot.
        traffic: a `Traffic` that counts what this replica sends, or None.
        order: replicated scalar variable for who communicates in a condition, or None.
            TensorFlow keeps stateful operations in the order of the program, but not a
            condition that holds some, unless they share a variable; workers would send
            in different orders.
    """

    def __init__(
        self,
        num_replicas: int,
        options: tf.distribute.experimental.CommunicationOptions | None = None,
        replica_id: tf.Tensor | None = None,
        ring: Ring | None = None,
        gather: Callable[[tf.Tensor, Any], tf.Tensor | None] | None = None,
        traffic: Traffic | None = None,
        order: tf.Variable | None = None,
    ) -> None:
        self.num_replicas = num_replicas
        self.options = options
        self.replica_id = tf.constant(0) if replica_id is None else replica_id
        self.examples: tf.Tensor | None = None
        self._ring, self._gather, self._traffic = ring, gather, traffic
        self._order = order

    def all_reduce(
        self, values: Sequence[tf.Tensor | tf.IndexedSlices], op: str = "sum"
    ) -> list[tf.Tensor]:
        """Reduces each value over all replicas, in as few messages as dtypes allow."""
        check_op(op, values)
        n = self.num_replicas
        around_a_ring = op == "sum" or self._ring is not None
        bytes_sent = 2 * (n - 1) / n if around_a_ring else n - 1
        return self._by_dtype(values, lambda same: self._all_reduce_one_dtype(same, op), bytes_sent)

    def all_gather(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Stacks each value over all replicas."""
        if self.num_replicas == 1:
            return [value[tf.newaxis] for value in values]
        return self._by_dtype(values, self._all_gather_one_dtype, self.num_replicas - 1)

    def all_to_all(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gives each replica rows of its own."""
        n = self.num_replicas
        bytes_sent = (n - 1) / n if self._ring is not None else n - 1
        return self._by_dtype(values, self._all_to_all_one_dtype, bytes_sent)

    def group_sum(self, values: Sequence[tf.Tensor], groups: tf.Tensor) -> list[tf.Tensor]:
        """Sums each value over the replicas of this one's group."""
        size = tf.reduce_sum(tf.cast(groups == groups[self.replica_id], tf.float64))
        sent = 2 * (size - 1) / size if self._ring is not None else self.num_replicas - 1
        return self._by_dtype(values, lambda same: self._group_sum_one_dtype(same, groups), sent)

    # -- one dtype: one message ---------------------------------------------------

    def _by_dtype(self, values, function, bytes_sent):
        """Calls `function` with the values of each dtype; counts what that sends.

        Args:
            bytes_sent: bytes for each byte of `values`.
        """
        if self.num_replicas == 1 or not values:
            return list(values)
        by_dtype = {}
        for position, value in enumerate(values):
            by_dtype.setdefault(value.dtype, []).append(position)
        results = [None] * len(values)
        for positions in by_dtype.values():
            same = [values[position] for position in positions]
            if self._traffic is None:
                changed = self._in_order(function, same)
            else:
                changed = self._traffic.count(function, same, bytes_sent)
            for position, value in zip(positions, changed):
                results[position] = value
        return results

    def _in_order(self, function, values):
        """Calls `function(values)`, behind whatever this replica has sent before."""
        if self._order is None:
            return function(values)
        with tf.control_dependencies([self._order.read_value()]):
            values = tf.nest.map_structure(tf.identity, values, expand_composites=True)
        results = function(values)
        with tf.control_dependencies(tf.nest.flatten(results, expand_composites=True)):
            self._order.assign(0)
        return results

    def _all_reduce_one_dtype(self, values, op="sum"):
        if self._ring is not None:
            return ring_ops.all_reduce(self._ring, values, op)
        if op != "sum":
            return [_reduce(every, op) for every in self._all_gather_one_dtype(values)]
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, values, self.options)

    def _all_gather_one_dtype(self, values):
        if self._ring is not None:
            return ring_ops.all_gather(self._ring, values)
        # A pack is one flat tensor of integers: collectives know few dtypes.
        flat, unpack = _pack(values)
        if flat.shape[0] == 0:  # which TensorFlow's would wait for until the deadline
            return [tf.zeros([self.num_replicas, *v.shape], v.dtype) for v in values]
        gathered = self._gather(flat, self.options)
        if gathered is None:
            mine = tf.one_hot(self.replica_id, self.num_replicas, dtype=flat.dtype)
            (gathered,) = self._all_reduce_one_dtype([mine[:, tf.newaxis] * flat])
        return unpack(tf.reshape(gathered, [self.num_replicas, flat.shape[0]]))

    def _all_to_all_one_dtype(self, values):
        if self._ring is not None:
            return ring_ops.all_to_all(self._ring, values)
        return [every[:, self.replica_id] for every in self._all_gather_one_dtype(values)]

    def _group_sum_one_dtype(self, values, groups):
        if self._ring is not None:
            return ring_ops.group_sum(self._ring, values, groups)
        belongs = groups == groups[self.replica_id]
        sums = []
        for every in self._all_gather_one_dtype(values):
            mask = tf.reshape(belongs, [-1] + [1] * (every.shape.rank - 1))
            sums.append(tf.reduce_sum(tf.where(mask, every, tf.zeros_like(every)), axis=0))
        return sums


class Traffic:
    """Counts what a replica sends through TensorFlow's collectives, and how long it takes.

    Args:
        bytes_sent: replicated float64 variable, payload by the formula of a ring.
        seconds: replicated float64 variable.
    """

    def __init__(self, bytes_sent, seconds):
        self._bytes_sent, self._seconds = bytes_sent, seconds

    def count(self, function, values, bytes_sent):
        """Calls `function(values)`, which sends `bytes_sent` bytes for each byte of them."""
        flat = tf.nest.flatten(values, expand_composites=True)
        begin = _time_behind(flat)
        with tf.control_dependencies([begin]):  # or nothing keeps a quick collective back
            values = tf.nest.map_structure(tf.identity, values, expand_composites=True)
        results = function(values)
        end = _time_behind(tf.nest.flatten(results, expand_composites=True))
        self._seconds.assign_add(end - begin)
        size = sum(tf.size(part, tf.int64) * part.dtype.size for part in flat)
        self._bytes_sent.assign_add(tf.cast(size, tf.float64) * bytes_sent)
        return results


def _time_behind(tensors):
    """The time, in seconds, when all of `tensors` are there."""
    # `tf.timestamp` refuses to run where operations must be deterministic. And it is
    # stateful: TensorFlow runs such operations in the order of the program, over all
    # replicas of a worker, so that the second's (an assertion of its loss) would wait
    # for the end of the first's collective, which waits for the second replica.
    some = tf.reshape(tensors[0], [-1])[:1]  # without an input it would be a constant
    with tf.control_dependencies(tensors):
        return tf.numpy_function(
            # As NumPy's: outside of a graph TensorFlow would make a Python float a float32.
            lambda _: np.float64(time.perf_counter()),
            [some],
            tf.float64,
            stateful=False,
        )


def _reduce(stacked, op):
    """The maximum or minimum over the first axis; NaN where there is one."""
    result = (tf.reduce_max if op == "max" else tf.reduce_min)(stacked, axis=0)
    if not stacked.dtype.is_floating:
        return result
    # TensorFlow's reductions pass a NaN over, or not, by the device and the shape.
    unknown = tf.reduce_any(tf.math.is_nan(stacked), axis=0)
    return tf.where(unknown, tf.constant(np.nan, stacked.dtype), result)


def _pack(values):
    """Values of one dtype as one vector of int32, and what takes its rows apart again."""
    dtype, shapes = values[0].dtype, [value.shape for value in values]
    sizes = [shape.num_elements() for shape in shapes]
    flat = tf.concat([tf.reshape(value, [-1]) for value in values], axis=0)
    count, width = sum(sizes), dtype.size
    if width < 4:
        flat = tf.reshape(tf.pad(flat, [[0, -count % (4 // width)]]), [-1, 4 // width])
    integers = tf.reshape(tf.bitcast(flat, tf.int32) if dtype != tf.int32 else flat, [-1])

    def unpack(rows):
        replicas = rows.shape[0]
        if width == 8:
            rows = tf.reshape(rows, [replicas, -1, 2])
        whole = rows if dtype == tf.int32 else tf.bitcast(rows, dtype)
        parts = tf.split(tf.reshape(whole, [replicas, -1])[:, :count], sizes, axis=1)
        return [tf.reshape(part, [replicas, *shape]) for part, shape in zip(parts, shapes)]

    return integers, unpack
