"""What is beyond the narrow range of float16."""

import numpy as np
import tensorflow as tf
from compression_cases import MIN_ELEMENTS
from simulated import on_replicas

from tfdist.gradient_compression import BFloat16, Float16


def means_of(compressor, per_replica):
    def program(communicator):
        gradient = tf.constant(per_replica[communicator.replica], shape=(8, 8))
        return compressor.reduce({}, [gradient], communicator)[0][0].numpy()

    return on_replicas(len(per_replica), program)


def test_float16_shows_its_overflow_on_all_replicas():
    for mean in means_of(Float16(min_elements=MIN_ELEMENTS), [1.0, 70000.0]):
        assert not np.isfinite(mean).any()
    for mean in means_of(BFloat16(min_elements=MIN_ELEMENTS), [1.0, 70000.0]):
        np.testing.assert_allclose(mean, 35000.5, rtol=2**-8)


def test_a_sum_does_not_overflow_where_its_terms_do_not():
    for mean in means_of(Float16(min_elements=MIN_ELEMENTS), [60000.0] * 4):
        assert (mean == 60000.0).all()
