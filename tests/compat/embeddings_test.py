import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist import compat
from tfdist.compat import embeddings

IDS = np.array([[0, 6, 10], [5, -1, 3]])


class Servers:
    """Stands for a strategy with parameter servers, where Keras asks which one is in force."""

    is_tfdist = is_asynchronous = True

    def __init__(self, parts=1):
        partitioners = tf.distribute.experimental.partitioners
        self.variable_partitioner = partitioners.FixedShardsPartitioner(parts)


@pytest.fixture
def on_servers(monkeypatch):
    compat.install()

    def force(parts):
        monkeypatch.setattr(embeddings.tf.distribute, "get_strategy", lambda: Servers(parts))
        monkeypatch.setattr(embeddings, "_is_on_server", lambda variable: True)

    return force


def table(seed=0):
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Embedding(11, 4)
    layer.build()
    return layer


def test_parts_hold_the_rows_of_the_whole_table(on_servers):
    whole = table()
    expected = np.asarray(whole.embeddings)
    on_servers(3)
    split = table()
    assert [tuple(weight.shape) for weight in split.weights] == [(4, 4), (4, 4), (3, 4)]
    np.testing.assert_array_equal(np.concatenate([w.numpy() for w in split.weights]), expected)
    np.testing.assert_array_equal(np.asarray(split.embeddings), expected)
    np.testing.assert_array_equal(np.asarray(split(IDS)), expected[IDS])


def test_one_part_is_looked_up_by_rows(on_servers):
    on_servers(1)
    layer = table()
    assert embeddings.parts_of(layer) is None
    np.testing.assert_array_equal(np.asarray(layer(IDS)), np.asarray(layer.embeddings)[IDS])
    graph = tf.function(lambda ids: layer(ids)).get_concrete_function(tf.constant(IDS)).graph
    kinds = {op.type for op in graph.get_operations()}
    assert "ResourceGather" in kinds and "ReadVariableOp" not in kinds


def test_gradients_are_those_of_the_rows(on_servers):
    on_servers(2)
    layer = table()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(IDS))
    parts = tape.gradient(loss, layer.trainable_weights)
    assert all(isinstance(part, tf.IndexedSlices) for part in parts)
    dense = np.concatenate([tf.convert_to_tensor(part).numpy() for part in parts])
    expected = np.zeros((11, 4))
    np.add.at(expected, IDS.reshape(-1), 1)
    np.testing.assert_array_equal(dense, expected)


def test_files_hold_one_table_and_are_read_whole_or_split(on_servers):
    whole = table(seed=1)
    expected = np.asarray(whole.embeddings)
    on_servers(2)
    split, store = table(seed=2), {}
    split.load_own_variables({"0": expected})
    np.testing.assert_array_equal(np.asarray(split.embeddings), expected)
    split.save_own_variables(store)
    np.testing.assert_array_equal(store["0"], expected)
    with pytest.raises(ValueError, match=r"expected a table of \(11, 4\).*one of \(3, 4\)"):
        split.load_own_variables({"0": expected[:3]})


def test_without_servers_keras_does_what_it_does():
    compat.install()
    layer = table()
    np.testing.assert_array_equal(np.asarray(layer(IDS)), np.asarray(layer.embeddings)[IDS])
    assert len(layer.weights) == 1
