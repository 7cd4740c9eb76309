import devices
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.tuning import ScaledLearningRate

STEPS = np.array([0, 1, 5, 10, 40])


@pytest.mark.parametrize("rule, factor", [("linear", 16.0), ("sqrt", 4.0)])
@pytest.mark.parametrize("warmup_steps", [0, 10])
def test_it_is_the_formula(rule, factor, warmup_steps):
    rate = ScaledLearningRate(0.1, rule, warmup_steps, replicas=16)
    done = np.minimum(STEPS / warmup_steps, 1.0) if warmup_steps else 1.0
    expected = np.broadcast_to(0.1 * (1 + (factor - 1) * done), STEPS.shape)
    np.testing.assert_allclose([float(rate(step)) for step in STEPS], expected, rtol=1e-6)


def test_a_schedule_is_scaled():
    base = keras.optimizers.schedules.CosineDecay(0.1, 40)
    rate = ScaledLearningRate(base, warmup_steps=10, replicas=4)
    cosine = 0.1 * 0.5 * (1 + np.cos(np.pi * STEPS / 40))
    expected = cosine * (1 + 3 * np.minimum(STEPS / 10, 1.0))
    np.testing.assert_allclose([float(rate(step)) for step in STEPS], expected, atol=1e-7)


def test_it_reads_the_replicas_in_scope():
    assert ScaledLearningRate(0.1).factor == 1.0
    with tfdist.MirroredStrategy(devices.PAIR).scope():
        assert ScaledLearningRate(0.1).factor == 2.0
        assert ScaledLearningRate(0.1, replicas=8).factor == 8.0


def test_twice_the_batch_at_twice_the_rate_is_two_small_steps_where_gradients_are_constant():
    def trained(strategy, rate, batch):
        with strategy.scope():
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
            model.set_weights([np.zeros((1, 1))])
            schedule = ScaledLearningRate(rate)
            # The gradient of the mean output does not depend on the weights.
            model.compile(keras.optimizers.SGD(schedule), lambda y_true, y_pred: y_pred)
        x = np.arange(1.0, 9.0)[:, None]
        model.fit(x, x, batch_size=batch, shuffle=False, verbose=0)
        return model.get_weights()[0].item()

    one = trained(tf.distribute.get_strategy(), 0.01, 2)
    two = trained(tfdist.MirroredStrategy(devices.PAIR), 0.01, 4)
    assert one == pytest.approx(two, rel=1e-6) == pytest.approx(-0.01 * 18, rel=1e-6)


def test_a_saved_model_has_the_rate_of_where_it_is_loaded(tmp_path):
    base = keras.optimizers.schedules.CosineDecay(0.1, 40)
    with tfdist.MirroredStrategy(devices.PAIR).scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(ScaledLearningRate(base, "sqrt", 3)), "mse")
    model.save(tmp_path / "model.keras")
    rate = keras.saving.load_model(tmp_path / "model.keras").optimizer._learning_rate
    assert isinstance(rate, ScaledLearningRate)
    assert rate.factor == 1.0
    assert (rate.rule, rate.warmup_steps, rate.base.get_config()) == ("sqrt", 3, base.get_config())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"rule": "cubic"}, "rule is 'cubic'; expected one of linear, sqrt"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"replicas": 0}, "replicas=0"),
        ({"base": -0.1}, "base is -0.1; expected a positive number or a schedule"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        ScaledLearningRate(**{"base": 0.1, **arguments})
