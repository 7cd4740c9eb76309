import keras
import numpy as np
import pytest
import tensorflow as tf
from upstream import require, require_parameters, two_cpus

from tfdist import compat
from tfdist.compat import array_order, coordination

EXAMPLES = 20


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def orders(strategy, fits=1, epochs=3):
    """The order in which examples come, for each epoch of each fit."""
    seen = []

    class Model(keras.Model):
        def train_step(self, data):
            seen.append(data[0][:, 0].numpy().astype(int).tolist())
            return {"loss": tf.constant(0.0)}

        def call(self, x):
            return x

    with strategy.scope() if strategy else tf.distribute.get_strategy().scope():
        model = Model()
        model.compile("sgd", run_eagerly=True)
    x = np.arange(EXAMPLES, dtype="float32")[:, None]
    for _ in range(fits):
        model.fit(x, x, batch_size=EXAMPLES, epochs=epochs, verbose=0)
    if strategy and strategy.num_replicas_in_sync == 2:
        return [a + b for a, b in zip(seen[::2], seen[1::2])]
    return seen


def test_upstream():
    require(array_order, "ArrayDataAdapter")
    require_parameters(tf.random.shuffle, "value", "seed", "name")


@pytest.mark.parametrize("strategy", [lambda: None, two_cpus], ids=["no strategy", "mirrored x2"])
def test_a_chosen_seed_gives_each_epoch_and_each_fit_an_order_of_its_own(strategy):
    strategy = strategy()
    coordination.choose_seed(5)
    assert coordination.seed_was_chosen()
    found = orders(strategy, fits=2)
    assert len({tuple(order) for order in found}) == 6
    assert all(sorted(order) == list(range(EXAMPLES)) for order in found)
    assert found[0] != list(range(EXAMPLES))
    coordination.choose_seed(5)
    assert orders(strategy, fits=2) == found  # another worker, or another process
    coordination.choose_seed(6)
    assert orders(strategy)[0] not in found


def test_a_seed_of_the_users_gives_what_keras_does():
    keras.utils.set_random_seed(5)
    assert not coordination.seed_was_chosen()
    plain = orders(None)
    keras.utils.set_random_seed(5)
    assert orders(two_cpus()) == plain
    assert plain[0] == plain[1]  # if Keras mends this, `array_order` may go


def test_tensorflows_shuffle_comes_back():
    original = tf.random.shuffle
    coordination.choose_seed(5)
    with pytest.raises(ZeroDivisionError), array_order.shuffling():
        assert tf.random.shuffle is not original
        raise ZeroDivisionError
    assert tf.random.shuffle is original
