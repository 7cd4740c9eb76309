"""Counts and sizes against NumPy and gzip, and latencies."""

import gzip

import keras
import numpy as np
from keras import layers

from tfdist import model_compression as compression


def network():
    stack = [
        keras.Input((8, 8, 3)),
        layers.Conv2D(4, 3, name="convolution"),
        layers.BatchNormalization(name="normalization"),
        layers.Dropout(0.5, name="dropout"),
        layers.Flatten(name="flat"),
        layers.Dense(3, name="last"),
    ]
    return keras.Sequential(stack, name="network")


def test_parameters_zeros_and_bytes():
    model = network()
    kernel = model.get_layer("last").kernel
    kernel.assign(np.where(np.arange(432).reshape(144, 3) % 4 == 0, kernel.numpy(), 0))
    facts = compression.report(model).before
    by_name = {layer.name: layer for layer in facts.layers}
    assert list(by_name) == ["convolution", "normalization", "last"]
    for name, found in by_name.items():
        values = [weight.numpy() for weight in model.get_layer(name).weights]
        assert found.parameters == sum(value.size for value in values)
        assert found.nonzeros == sum(int((value != 0).sum()) for value in values)
        assert found.bytes == sum(value.nbytes for value in values)
        stored = b"".join(value.tobytes() for value in values)
        assert found.gzip_bytes == len(gzip.compress(stored, 6))
    assert facts.total("parameters") == model.count_params()
    assert by_name["last"].gzip_bytes < 0.5 * by_name["last"].bytes
    assert facts.metrics is None and facts.file_bytes is None


def test_a_shared_weight_and_half_precision_count_once_and_as_they_are():
    inputs, shared = keras.Input((4,)), layers.Dense(4, name="shared", dtype="bfloat16")
    model = keras.Model(inputs, shared(shared(inputs)))
    (layer,) = compression.report(model).before.layers
    assert (layer.parameters, layer.nonzeros, layer.bytes) == (20, 16, 40)


def test_a_file(tmp_path):
    model, path = network(), tmp_path / "network.keras"
    model.save(path)
    facts = compression.report(path).before
    assert facts.name == "network.keras"
    assert facts.file_bytes == path.stat().st_size > facts.total("bytes")
    assert facts.file_gzip_bytes == len(gzip.compress(path.read_bytes(), 6, mtime=0))
    assert facts.layers == compression.report(model).before.layers


def test_latencies_have_quartiles():
    for model in compression.report(network(), network()).models:
        latency = model.latency
        assert 0 < latency.low_ms <= latency.median_ms <= latency.high_ms
        assert latency.batch_size == 1 and latency.repeats >= 7


def test_inputs_of_several_kinds():
    words = keras.Input((5,), dtype="int32", name="words")
    features = keras.Input((3,), name="features")
    embedded = layers.Flatten()(layers.Embedding(9, 4, name="table")(words))
    outputs = layers.Dense(2, name="last")(layers.Concatenate()([embedded, features]))
    model = keras.Model({"words": words, "features": features}, outputs)
    facts = compression.report(model).before
    assert facts.total("macs") == 23 * 2 and facts.latency is not None


def test_a_model_whose_inputs_are_not_known():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.add_weight(shape=(3,), name="weight")

    facts = compression.report(Own()).before
    assert facts.total("parameters") == 3
    assert facts.total("macs") is None and facts.latency is None
    (note,) = facts.notes
    assert note.startswith("MACs and latency are not known. The shapes of the inputs of 'own'")
