"""bfloat16 and float16 on the wire, which differ in their rounding alone."""

import compression_cases as cases
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from tfdist.gradient_compression import BFloat16, Float16

WIRE = {BFloat16: ml_dtypes.bfloat16, Float16: np.float16}
halves = pytest.mark.parametrize("compressor_class", WIRE, ids=lambda c: c.__name__)


def make(compressor_class):
    return compressor_class(min_elements=cases.MIN_ELEMENTS)


def oracle_of(wire):
    def oracle(gradients, step):
        means = cases.plain_means(gradients)
        for position in cases.COMPRESSED:
            dtype = means[position].dtype
            rounded = [each[position].astype(wire).astype(dtype) for each in gradients]
            means[position] = (sum(rounded) / dtype.type(len(rounded))).astype(wire).astype(dtype)
        return means

    return oracle


@halves
@cases.each_number
def test_training_follows_numpy(compressor_class, n):
    cases.assert_follows(make(compressor_class), oracle_of(WIRE[compressor_class]), n)


@halves
def test_float64_is_summed_in_float64(compressor_class):
    cases.assert_follows(make(compressor_class), oracle_of(WIRE[compressor_class]), 3, "float64")


@halves
@cases.each_number
def test_bytes_are_those_that_were_sent(compressor_class, n):
    cases.assert_bytes_are_counted(make(compressor_class), n)


@halves
def test_three_messages_whatever_the_number_of_tensors(compressor_class):
    communicator = cases.train(make(compressor_class), 2, steps=1)[0][3]
    assert communicator.collectives == ["all_reduce", "all_to_all", "all_gather"]
    wire = [tf.as_dtype(WIRE[compressor_class]).name]
    assert communicator.messages[1:] == [wire, wire]


@halves
def test_the_traffic_is_that_of_the_best_all_reduce(compressor_class):
    for n in (2, 4, 8):
        sent = compressor_class().bytes_per_step([(64, 64)], n)
        assert sent == 2 * (n - 1) / n * 2 * 64 * 64


@halves
def test_what_is_not_finite_is_skipped(compressor_class):
    cases.assert_skips_what_is_not_finite(make(compressor_class))


@halves
def test_graph_equals_eager(compressor_class):
    cases.assert_graph_equals_eager(make(compressor_class))


@halves
def test_there_is_no_state(compressor_class):
    assert make(compressor_class).init(cases.variables()) == {}
