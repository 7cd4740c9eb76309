"""What all compressors have in common."""

import json

import compression_cases as cases
import keras
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas

import tfdist

compression = tfdist.gradient_compression
M = cases.MIN_ELEMENTS
COMPRESSORS = [
    compression.BFloat16(min_elements=M),
    compression.Float16(min_elements=M),
    compression.Int8(seed=3, min_elements=M),
    compression.OneBit(min_elements=M),
    compression.TopK(0.2, min_elements=M),
    compression.TopK(0.2, momentum=0.9, min_elements=M),
    compression.PowerSGD(2, seed=4, min_elements=M),
    compression.PowerSGD(2, warm_start=False, min_elements=M),
]
every = pytest.mark.parametrize("compressor", COMPRESSORS, ids=lambda c: type(c).__name__)


def test_the_public_names_are_loaded_when_they_are_used():
    assert dir(compression) == sorted(compression.__all__)
    for name in compression.__all__:
        assert getattr(compression, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'PowerSDG'"):
        _ = compression.PowerSDG


@every
def test_the_config_is_json_and_makes_an_equal_one(compressor):
    config = json.loads(json.dumps(compressor.get_config()))
    assert type(compressor)(**config).get_config() == config
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(compressor)))
    assert saved["registered_name"] == f"tfdist>{type(compressor).__name__}"
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(compressor) and again.get_config() == config


@every
def test_the_state_keeps_its_structure(compressor):
    state = compressor.init(cases.variables())
    assert all(isinstance(values, list) and values for values in state.values())
    gradients = cases.tensors(cases.gradients_of(cases.start(), 0))
    _, new = compressor.reduce(state, gradients, cases.Alone())
    assert list(new) == list(state)
    for a, b in zip(tf.nest.flatten(state), tf.nest.flatten(new)):
        assert tf.is_tensor(a) and (a.shape, a.dtype) == (b.shape, b.dtype)


@every
def test_a_hundred_little_tensors_are_one_message(compressor):
    def program(communicator):
        gradients = [tf.fill([3, 2], float(i + communicator.replica)) for i in range(100)]
        state = compressor.init(gradients)
        return compressor.reduce(state, gradients, communicator)[0], communicator

    for means, communicator in on_replicas(2, program):
        assert communicator.collectives == ["all_reduce"]
        for i, mean in enumerate(means):
            np.testing.assert_array_equal(mean, np.full((3, 2), i + 0.5))
    assert compressor.bytes_per_step([(3, 2)] * 100, 2) == communicator.bytes_sent == 2400


@every
def test_without_little_tensors_there_is_no_message_for_them(compressor):
    def program(communicator):
        gradients = cases.tensors(cases.gradients_of(cases.start(), communicator.replica))[:3]
        compressor.reduce(compressor.init(gradients), gradients, communicator)
        return communicator

    communicator = on_replicas(2, program)[0]
    assert communicator.bytes_sent == compressor.bytes_per_step(cases.SHAPES[:3], 2)
    for name, dtypes in zip(communicator.collectives, communicator.messages):
        assert dtypes, f"an empty {name}"
        assert len(set(dtypes)) == 1


@every
def test_nothing_to_reduce(compressor):
    state = compressor.init([])
    assert not any(tf.nest.flatten(state))  # at most a step of 0
    means, same = compressor.reduce(state, [], None)  # no communicator: nothing may be sent
    assert means == [] and same is state
    assert compressor.bytes_per_step([], 2) == 0


@every
def test_one_replica_sends_nothing(compressor):
    assert compressor.bytes_per_step(cases.SHAPES, 1) == 0


@every
def test_bytes_of_float64(compressor):
    communicator = cases.train(compressor, 3, "float64", steps=1)[0][3]
    sent = compressor.bytes_per_step(cases.SHAPES, 3, dtype_bytes=8)
    assert sent == round(communicator.bytes_sent)


@every
def test_mixed_dtypes_keep_theirs(compressor):
    shapes = [(12, 8), (16, 8), (4,), (4,)]
    dtypes = ["float32", "float64", "float64", "float32"]

    def program(communicator):
        rng = np.random.default_rng(communicator.replica)
        gradients = [
            tf.constant(rng.normal(size=shape), dtype) for shape, dtype in zip(shapes, dtypes)
        ]
        state = compressor.init(gradients)
        means, new = compressor.reduce(state, gradients, communicator)
        assert [mean.dtype.name for mean in means] == dtypes
        for a, b in zip(tf.nest.flatten(state), tf.nest.flatten(new)):
            assert a.dtype == b.dtype
        return means

    first, second = on_replicas(2, program)
    for a, b in zip(first, second):
        assert a.numpy().tobytes() == b.numpy().tobytes()
    assert first[0].numpy().any() and first[1].numpy().any()


@every
def test_half_precision_variables_have_a_float32_state(compressor):
    state = compressor.init(cases.variables(dtype="bfloat16"))
    assert all(value.dtype in (tf.float32, tf.int64) for value in tf.nest.flatten(state))
    gradients = cases.tensors(cases.gradients_of(cases.start(), 0))
    compressor.reduce(state, gradients, cases.Alone())


@every
def test_check_accepts_keras_variables_and_refuses_what_has_no_float_gradient(compressor):
    sgd = keras.optimizers.SGD(0.1)
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    compressor.check(sgd, layer.trainable_variables)
    for dtype in ("complex64", "int32", "bool", "float8_e4m3fn"):
        with pytest.raises(ValueError, match=f"dtype {dtype} was received: expected float16"):
            compressor.check(sgd, [tf.TensorSpec((2, 2), dtype)])
    with pytest.raises(ValueError, match=r"shape .* was received.*Build the model first"):
        compressor.check(sgd, [tf.TensorSpec((None, 2), tf.float32)])


def test_reduce_says_that_the_state_belongs_to_other_gradients():
    compressor = compression.OneBit(min_elements=M)
    state = compressor.init(cases.variables())
    gradients = cases.tensors(cases.gradients_of(cases.start(), 0))
    for wrong in ({}, {"residuals": state["residuals"][:2]}, {**state, "more": []}):
        with pytest.raises(ValueError, match=r"`OneBit.reduce` received a state of the shapes"):
            compressor.reduce(wrong, gradients, cases.Alone())
    with pytest.raises(ValueError, match=r"expected .*\(7, 5\), \(24, 12\)"):
        compressor.reduce(state, [gradients[2], *gradients[:2]], cases.Alone())


@pytest.mark.parametrize("min_elements", [0, 1.5])
def test_bad_min_elements(min_elements):
    with pytest.raises(ValueError, match=r"min_elements=.*: expected an int of at least 1"):
        compression.BFloat16(min_elements=min_elements)


def test_tensors_of_min_elements_are_compressed_and_smaller_ones_are_not():
    compressor = compression.BFloat16(min_elements=64)
    assert compressor.bytes_per_step([(8, 8)], 2) == 64 * 2
    assert compressor.bytes_per_step([(9, 7)], 2) == 63 * 4
    assert compressor.bytes_per_step([(64,)], 2) == 64 * 4
