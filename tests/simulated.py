"""Replicas that are threads of this process and sum with NumPy."""

import threading

import numpy as np
import tensorflow as tf

DEADLINE_S = 30.0


class _Meeting:
    """Where the replicas lay down their values, and wait for each other."""

    def __init__(self, num_replicas):
        self.values = [None] * num_replicas
        self.barrier = threading.Barrier(num_replicas)
        self.messages = []  # what replica 0 sent: a list of dtypes a call


class SimulatedCommunicator:
    """Speaks as `tfdist.sync.communicator.ReplicaCommunicator` does, without collectives.

    Attributes:
        num_replicas: how many replicas take part.
        replica: this replica's index.
        messages: for each call of `all_reduce` so far, the dtypes it was given.
    """

    def __init__(self, meeting, replica):
        self.num_replicas = len(meeting.values)
        self.replica = replica
        self.messages = meeting.messages
        self._meeting = meeting

    def all_reduce(self, values):
        values = list(values)
        meeting = self._meeting
        if self.replica == 0:
            meeting.messages.append([value.dtype.name for value in values])
        meeting.values[self.replica] = values
        meeting.barrier.wait(DEADLINE_S)
        everyone = list(meeting.values)
        meeting.barrier.wait(DEADLINE_S)  # all have looked before anyone lays down the next
        assert len({len(each) for each in everyone}) == 1, "replicas sent different numbers"
        return [_sum(each) for each in zip(*everyone)]


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
