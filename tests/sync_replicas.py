"""Trains the model of `sync_oracle` by an algorithm of tfdist, on simulated replicas."""

import copy

import keras
import numpy as np
import sync_oracle as oracle
import tensorflow as tf
from simulated import on_replicas

from tfdist.sync.algorithm import variables_of


class CountedCommunicator:
    """Counts what a replica would send around a ring: 2 (n-1) / n of a sum over n.

    Attributes:
        bytes_sent: payload so far, of which `scalar_bytes` are those of scalars (the
            weights of means, which `bytes_per_step` leaves out).
    """

    def __init__(self, communicator):
        self._communicator = communicator
        self.bytes_sent = self.scalar_bytes = 0.0

    def __getattr__(self, name):
        return getattr(self._communicator, name)

    def all_reduce(self, values, op="sum"):
        self._count(values, self.num_replicas)
        return self._communicator.all_reduce(values, op)

    def group_sum(self, values, groups):
        groups = np.asarray(groups)
        self._count(values, np.count_nonzero(groups == groups[int(self.replica_id)]))
        return self._communicator.group_sum(values, groups)

    def _count(self, values, size):
        for value in values:
            sent = 2 * (size - 1) / size * int(tf.size(value)) * value.dtype.size
            self.bytes_sent += sent
            self.scalar_bytes += sent if value.shape.rank == 0 else 0


class Trained:
    """What came out of all replicas, in the form of the oracle's.

    Attributes:
        models: array `(steps, replicas, parameters)`.
        averages: array `(steps, replicas, parameters)`: `average` behind each step.
        said: bool array `(steps, replicas)`, what `after_update` returned.
        sent: array `(steps, replicas)` of bytes, without the weights of means.
    """

    def __init__(self, replicas):
        each = zip(*replicas)
        self.models, self.averages, self.said, self.sent = (
            np.array(values).swapaxes(0, 1) for values in each
        )


def train(make, workers, optimizer, dtype="float64"):
    """Trains for `oracle.STEPS` steps.

    Args:
        make: function that returns a new algorithm.
        workers: int, how many replicas.
        optimizer: one of the oracle's, copied for each replica.
        dtype: of the variables.

    Returns:
        A `Trained`.
    """
    keras.config.set_floatx("float64")  # an outer optimizer's rate is of that type
    steps = oracle.steps_of(workers)

    def program(communicator):
        communicator = CountedCommunicator(communicator)
        algorithm, inner = make(), copy.deepcopy(optimizer)
        first = oracle.first_model()
        kernel = first[oracle.KERNEL].reshape(oracle.INPUTS, oracle.OUTPUTS)
        variables = [tf.Variable(v, dtype=dtype) for v in (kernel, first[oracle.BIAS])]
        algorithm.check(workers, None, variables)
        state = algorithm.init(variables)
        algorithm.start(state, variables)
        models, averages, said, sent = [], [], [], []
        for batches in steps:
            x, y = batches[communicator.replica]
            communicator.examples = tf.constant(len(x), tf.float32)
            before, model = _sent(communicator), _vector(variables)
            gradient = oracle.gradient(model, x, y)
            if not algorithm.local:  # a contribution to the mean over examples
                count = sum(len(batch[0]) for batch in batches)
                gradient = gradient * workers * len(x) / count
            gradients = _tensors(gradient, variables)
            reduced = algorithm.reduce_gradients(state, gradients, communicator)
            _assign(variables, inner.step(model, _vector(reduced)))
            said.append(bool(algorithm.after_update(state, variables, communicator)))
            sent.append(_sent(communicator) - before)
            models.append(_vector(variables))
            averages.append(_average(algorithm, state, variables, communicator))
        return models, averages, said, sent

    return Trained(on_replicas(workers, program))


def _average(algorithm, state, variables, communicator):
    kept = [v.numpy() for v in variables_of(state)]
    model = _vector(variables)
    algorithm.average(state, variables, communicator)
    average = _vector(variables)
    _assign(variables, model)
    for before, variable in zip(kept, variables_of(state)):
        np.testing.assert_array_equal(variable, before)  # looking changes no state
    return average


def _vector(values):
    return np.concatenate([np.asarray(value, "float64").ravel() for value in values])


def _tensors(vector, variables):
    parts = np.split(vector, [oracle.KERNEL.stop])
    return [tf.constant(p.reshape(v.shape), v.dtype) for p, v in zip(parts, variables)]


def _assign(variables, vector):
    for variable, value in zip(variables, _tensors(vector, variables)):
        variable.assign(value)


def _sent(communicator):
    return communicator.bytes_sent - communicator.scalar_bytes


def assert_is(trained, expected, algorithm, tolerance):
    """`trained` is the oracle's, and the algorithm has said when replicas agree."""
    np.testing.assert_allclose(
        trained.models, expected.models, rtol=0, atol=tolerance, err_msg="models"
    )
    averages = np.broadcast_to(expected.averages[:, np.newaxis], trained.averages.shape)
    # Where no replica has seen an example since, none is asked for.
    asked = [not algorithm.agrees_at(t) for t in range(1, oracle.STEPS + 1)]
    np.testing.assert_allclose(
        trained.averages[asked], averages[asked], rtol=0, atol=tolerance, err_msg="averages"
    )
    same_bits = (trained.models == trained.models[:, :1]).all(axis=(1, 2))
    agrees = np.array([algorithm.agrees_at(t) for t in range(1, oracle.STEPS + 1)])
    assert (same_bits | ~agrees).all(), "replicas differ where they are said to agree"
    assert (trained.averages == trained.averages[:, :1]).all(), "averages differ"
    assert (trained.said == trained.said[:, :1]).all(), "replicas disagree on agreeing"
