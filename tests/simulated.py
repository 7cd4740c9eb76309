"""Replicas that are threads of this process and sum with NumPy."""

import threading

import numpy as np
import slowness
import tensorflow as tf

from tfdist.sync.protocol import check_op

DEADLINE_S = slowness.seconds(30.0)


class _Meeting:
    """Where the replicas lay down their values, and wait for each other."""

    def __init__(self, num_replicas):
        self.values = [None] * num_replicas
        self.barrier = threading.Barrier(num_replicas)
        self.messages = []  # what replica 0 sent: a list of dtypes a call
        self.collectives = []  # and by which collective
        self.bytes_sent = 0.0


class SimulatedCommunicator:
    """A `tfdist.sync.protocol.Communicator` without collectives.

    Attributes:
        num_replicas: how many replicas take part.
        replica: this replica's index.
        replica_id: the same as a scalar int32 tensor.
        messages: for each call so far, the dtypes it was given.
        collectives: for each call so far, the name of the method.
        examples: scalar float32 tensor, set by whoever steps.
    """

    def __init__(self, meeting, replica):
        self.num_replicas = len(meeting.values)
        self.replica = replica
        self.replica_id = tf.constant(replica, tf.int32)
        self.messages = meeting.messages
        self.collectives = meeting.collectives
        self.examples = None
        self._meeting = meeting

    @property
    def bytes_sent(self):
        """Float: the bytes that a replica has sent so far, over the best of transports."""
        return self._meeting.bytes_sent

    def all_reduce(self, values, op="sum"):
        check_op(op, values)
        n = self.num_replicas
        everyone = self._exchange("all_reduce", values, 2 * (n - 1) / n)
        if op == "sum":
            return [_sum(each) for each in everyone]
        reduce = {"max": np.maximum, "min": np.minimum}[op].reduce
        stacked = [_stack(each) for each in everyone]
        with np.errstate(invalid="ignore"):  # of NaN in half precision
            return [tf.constant(reduce(s.numpy(), axis=0), s.dtype) for s in stacked]

    def all_gather(self, values):
        """For each value a tensor [N, *shape], in the order of the replicas."""
        everyone = self._exchange("all_gather", values, self.num_replicas - 1)
        return [_stack(each) for each in everyone]

    def all_to_all(self, values):
        """For each value [N, ...] a tensor like it: row i came from replica i."""
        n = self.num_replicas
        assert all(value.shape[0] == n for value in values), "expected a row for each replica"
        everyone = self._exchange("all_to_all", values, (n - 1) / n)
        return [_stack([value[self.replica] for value in each]) for each in everyone]

    def group_sum(self, values, groups):
        """For each value its sum over the replicas of this one's group."""
        groups = np.asarray(groups)
        members = np.flatnonzero(groups == groups[self.replica])
        factor = 2 * (len(members) - 1) / len(members)
        everyone = self._exchange("group_sum", [*values, tf.constant(groups)], factor)
        assert all((theirs.numpy() == groups).all() for theirs in everyone.pop()), "other groups"
        return [_sum([each[member] for member in members]) for each in everyone]

    def _exchange(self, collective, values, bytes_factor):
        """For each value the list of what the replicas laid down for it."""
        values = list(values)
        meeting = self._meeting
        if self.replica == 0:
            meeting.messages.append([value.dtype.name for value in values])
            meeting.collectives.append(collective)
            meeting.bytes_sent += bytes_factor * sum(map(_bytes_of, values))
        meeting.values[self.replica] = values
        meeting.barrier.wait(DEADLINE_S)
        everyone = list(meeting.values)
        meeting.barrier.wait(DEADLINE_S)  # all have looked before anyone lays down the next
        assert len({len(each) for each in everyone}) == 1, "replicas sent different numbers"
        return list(zip(*everyone))


def _bytes_of(value):
    if isinstance(value, tf.IndexedSlices):
        return _bytes_of(value.values) + _bytes_of(value.indices)
    return value.dtype.size * value.shape.num_elements()


def _stack(values):
    assert len({value.dtype for value in values}) == 1, "replicas sent different dtypes"
    assert len({tuple(value.shape) for value in values}) == 1, "replicas sent different shapes"
    return tf.constant(np.stack([value.numpy() for value in values]), values[0].dtype)


def _sum(values):
    assert len({value.dtype for value in values}) == 1, "replicas sent different dtypes"
    if isinstance(values[0], tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.constant(np.concatenate([value.values.numpy() for value in values])),
            tf.constant(np.concatenate([value.indices.numpy() for value in values])),
            values[0].dense_shape,
        )
    assert len({tuple(value.shape) for value in values}) == 1, "replicas sent different shapes"
    total = values[0].numpy().copy()
    for value in values[1:]:
        total += value.numpy()
    return tf.constant(total, values[0].dtype)


def on_replicas(num_replicas, program):
    """Calls `program(communicator)` for each replica on a thread of its own.

    Returns:
        The list of what they returned.

    Raises:
        What the first replica to fail raised.
    """
    meeting = _Meeting(num_replicas)
    results, errors = [None] * num_replicas, []

    def run(replica):
        try:
            # TensorFlow crashes where several threads read from one part of a GPU.
            with tf.device("CPU:0"):
                results[replica] = program(SimulatedCommunicator(meeting, replica))
        except BaseException as error:
            errors.append(error)
            meeting.barrier.abort()  # the others need not wait

    threads = [
        threading.Thread(target=run, args=(replica,), daemon=True)
        for replica in range(num_replicas)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * DEADLINE_S)
    if errors:
        raise next(
            (e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0]
        )
    assert not any(thread.is_alive() for thread in threads), "a replica still computes"
    return results
