import keras
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas
from step_cases import keras_step, known

from tfdist.sync.collected_updates import CommunicatesError


@known
@pytest.mark.parametrize("fault", [CommunicatesError, ValueError])
def test_an_attempt_that_fails_leaves_the_step_as_it_was(known, fault):
    """Else the second attempt would weigh its loss, or average its state, by the first one's."""

    def program(communicator):
        step = keras_step(communicator, (3, 5), known)
        noted, optimizer = keras.Variable(0.0), keras.optimizers.SGD(1.0)
        step.note_assignment(noted, 1.0)
        before = noted_by(step)
        with pytest.raises(fault), step.collecting_updates():
            step.weigh_loss(tf.constant(1.0), optimizer)
            step.note_assignment(keras.Variable(1.0), 2.0)
            metric = keras.Variable(1.0, trainable=False, synchronization="on_read")
            step.note_assignment(metric, 2.0)
            step.collect_update(optimizer, [tf.constant(1.0)], [noted])
            if fault is ValueError:
                raise ValueError
            step.note_forward_collective()
        assert noted_by(step) == before
        assert step.communicator is communicator and step.take_updates() == []
        # And what is noted from now on is noted for good.
        step.note_forward_collective()
        return float(step.weigh_loss(tf.constant(1.0, tf.float64), optimizer))

    np.testing.assert_allclose(on_replicas(2, program), [3 / 8, 5 / 8])


def noted_by(step):
    of_step = {k: repr(v) for k, v in vars(step).items() if k not in ("_state", "_metrics")}
    return of_step, repr(vars(step._state)), repr(vars(step._metrics))
