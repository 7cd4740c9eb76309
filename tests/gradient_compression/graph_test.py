"""Every compressor in one graph of two replicas, with TensorFlow's own collectives."""

import compression_cases as cases
import devices
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.gradient_compression import BFloat16, Float16, Int8, OneBit, PowerSGD, TopK

N = 2
STEPS = 3
M = cases.MIN_ELEMENTS
# Quick is one of each way to send: a sum, all to all and back, a gather, and two sums.
COMPRESSORS = [
    BFloat16(min_elements=M),
    pytest.param(Float16(min_elements=M), marks=pytest.mark.slow),
    Int8(min_elements=M),
    pytest.param(OneBit(min_elements=M), marks=pytest.mark.slow),
    pytest.param(TopK(0.2, min_elements=M), marks=pytest.mark.slow),
    TopK(0.2, momentum=0.9, min_elements=M),
    PowerSGD(2, min_elements=M),
    pytest.param(PowerSGD(2, warm_start=False, min_elements=M), marks=pytest.mark.slow),
]


class InReplicaContext:
    """Speaks through the replica context of `tf.distribute`."""

    num_replicas = N

    def __init__(self, replica_id):
        self.replica_id = replica_id

    def all_reduce(self, values):
        return tf.distribute.get_replica_context().all_reduce("SUM", values)

    def all_gather(self, values):
        context = tf.distribute.get_replica_context()
        # TensorFlow gathers none of the narrow ones but float16; wider, they lose nothing.
        wide = {tf.int8: tf.int32, tf.uint8: tf.int32, tf.bfloat16: tf.float32}
        gathered = [
            context.all_gather(tf.cast(value, wide.get(value.dtype, value.dtype))[None], axis=0)
            for value in values
        ]
        return [tf.cast(each, value.dtype) for each, value in zip(gathered, values)]

    def all_to_all(self, values):
        return [gathered[:, self.replica_id] for gathered in self.all_gather(values)]


def initial_states(compressor, strategy):
    """A state of each replica; `experimental_distribute_values_from_function` takes no dict."""
    flat = tf.nest.flatten(compressor.init(cases.variables()))
    return [
        strategy.experimental_distribute_values_from_function(lambda context, v=value: v)
        for value in flat
    ]


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=lambda c: type(c).__name__)
def test_replicas_of_one_graph_equal_simulated_ones(compressor):
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    structure = compressor.init(cases.variables())
    constants = list(zip(*(cases.gradients_of(cases.start(), replica) for replica in range(N))))

    def on_replica(state, step):
        replica_id = strategy.replica_id()
        gradients = [tf.gather(tf.stack(each), replica_id) - 0.1 * step for each in constants]
        state = tf.nest.pack_sequence_as(structure, state)
        means, state = compressor.reduce(state, gradients, InReplicaContext(replica_id))
        return means, tf.nest.flatten(state)

    step_function = tf.function(lambda state, step: strategy.run(on_replica, (state, step)))
    state = initial_states(compressor, strategy)
    steps = []
    for step in range(STEPS):
        means, state = step_function(state, tf.constant(step, tf.float32))
        steps.append([strategy.experimental_local_results(mean) for mean in means])

    def program(communicator):
        state, history = compressor.init(cases.variables()), []
        for step in range(STEPS):
            own = [each[communicator.replica] - np.float32(0.1) * step for each in constants]
            own = [tf.constant(value, tf.float32) for value in own]
            means, state = compressor.reduce(state, own, communicator)
            history.append(cases.arrays(means))
        return history

    expected = cases.on_replicas(N, program)[0]
    for means, wanted in zip(steps, expected):
        for replicas, mean in zip(means, wanted):
            assert replicas[0].numpy().tobytes() == replicas[1].numpy().tobytes()
            np.testing.assert_allclose(replicas[0], mean, rtol=1e-4, atol=1e-5)
