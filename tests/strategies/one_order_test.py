import types
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfdist.strategies import one_order


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    monkeypatch.setattr(one_order, "_told", set())


def strategy(is_chief=True):
    return types.SimpleNamespace(num_workers=2, is_chief=is_chief)


def numbers(**parallel):
    return tf.data.Dataset.range(8).map(lambda x: x, **parallel).batch(4)


AS_THEY_COME = {"num_parallel_calls": 2, "deterministic": False}
WARNING = (
    r"depends on timing: it has `deterministic=False` of a ParallelMapDataset\. "
    r"On 2 workers (.|\n)*AutoShardPolicy\.FILE"
)


@pytest.mark.parametrize("parallel", [{}, {"num_parallel_calls": 2}])
def test_an_ordered_pipeline_is_left_alone(parallel):
    dataset = numbers(**parallel)
    assert one_order.of_all_workers(dataset, strategy()) is dataset


def test_the_chief_says_once_what_it_found():
    with pytest.warns(UserWarning, match=WARNING):
        ordered = one_order.of_all_workers(numbers(**AS_THEY_COME), strategy())
    np.testing.assert_array_equal(np.concatenate(list(ordered)), range(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_order.of_all_workers(numbers(**AS_THEY_COME), strategy())


def test_other_workers_say_nothing():
    ordered = one_order.of_all_workers(numbers(**AS_THEY_COME), strategy(is_chief=False))
    np.testing.assert_array_equal(np.concatenate(list(ordered)), range(8))


def test_an_order_that_cannot_be_fixed_is_refused():
    captured = numbers(**AS_THEY_COME)
    dataset = tf.data.Dataset.range(2).flat_map(lambda _: captured)
    with pytest.raises(ValueError, match="depends on timing") as error:
        one_order.of_all_workers(dataset, strategy())
    for part in ("made outside of the function", "2 workers", "Remove this part", "Policy.FILE"):
        assert part in str(error.value)
