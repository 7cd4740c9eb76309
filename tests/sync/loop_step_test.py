import numpy as np
import tensorflow as tf
from simulated import on_replicas
from step_cases import EXAMPLES, splits

from tfdist.sync.loop_step import Step

OPTIMIZER = object()


@splits
def test_a_custom_loop_sums(split):
    n = len(split)

    def program(communicator):
        step = Step(communicator, tf.constant(communicator.replica))
        value = EXAMPLES[communicator.replica]
        dense, none, sparse = step.reduce_gradients(
            [
                tf.constant(value),
                None,
                tf.IndexedSlices(tf.constant(value), tf.constant([1, 0]), tf.constant([4, 3])),
            ],
            OPTIMIZER,
        )
        assert none is None
        assert float(step.weigh_loss(tf.constant(3.0), OPTIMIZER)) == 3.0
        assert not step.weighs_examples
        return dense, tf.convert_to_tensor(sparse)

    total = EXAMPLES[:n].sum(axis=0)
    for dense, sparse in on_replicas(n, program):
        np.testing.assert_allclose(dense, total, rtol=1e-14)
        np.testing.assert_allclose(sparse[:2], total[::-1], rtol=1e-14)
        np.testing.assert_array_equal(sparse[2:], 0)
