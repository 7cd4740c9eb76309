import pytest
import tensorflow as tf

from tfdist.data.reading import without_autotuner


def numbers():
    """Of what is drawn at random, and of what is made in parallel."""
    tf.random.set_seed(5)
    dataset = tf.data.Dataset.range(60).shuffle(60)
    return dataset.map(lambda n: (n, {"b": 2 * n}), num_parallel_calls=tf.data.AUTOTUNE).batch(7)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_elements_and_their_order_stay(prefetch):
    read = without_autotuner(numbers(), prefetch)
    assert read.options().autotune.enabled is False
    assert read.element_spec == numbers().element_spec
    assert read.cardinality() == numbers().cardinality()
    expected = numbers()
    for _ in range(2):  # epochs
        for mine, theirs in zip(read, expected, strict=True):
            tf.nest.map_structure(tf.debugging.assert_equal, mine, theirs)


def test_other_options_stay():
    options = tf.data.Options()
    options.deterministic, options.threading.private_threadpool_size = False, 3
    read = without_autotuner(numbers().with_options(options)).options()
    assert read.deterministic is False and read.threading.private_threadpool_size == 3


@pytest.mark.parametrize("asked", [True, False])
def test_what_the_user_has_asked_for_stays(asked):
    options = tf.data.Options()
    options.autotune.enabled = asked
    dataset = numbers().with_options(options)
    assert without_autotuner(dataset) is dataset
