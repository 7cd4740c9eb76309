import inspect

import tensorflow as tf
from tensorflow.python.distribute.parameter_server_strategy_v2 import (
    ParameterServerStrategyV2Extended,
)


def test_the_engine_has_what_is_replaced():
    # How it works is what `tests/strategies/parameter_server_test.py` is about.
    names = inspect.signature(ParameterServerStrategyV2Extended._update).parameters
    assert list(names) == ["self", "var", "fn", "args", "kwargs", "group"]
    names = inspect.signature(ParameterServerStrategyV2Extended._replica_ctx_update).parameters
    assert list(names)[:3] == ["self", "var", "fn"]
    assert list(inspect.signature(ParameterServerStrategyV2Extended._create_variable).parameters)[
        :2
    ] == ["self", "next_creator"]
    assert ParameterServerStrategyV2Extended._use_merge_call
    assert tf.distribute.ParameterServerStrategy


def test_critical_sections_without_names_share_one_lock():
    # Why each variable's has a name of its own: two in one step would wait for each other.
    names = inspect.signature(tf.CriticalSection.__init__).parameters
    assert "shared_name" in names
