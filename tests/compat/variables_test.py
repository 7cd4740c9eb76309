import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.core import Variable
from upstream import original, require_parameters, two_cpus

from tfdist import compat
from tfdist.compat import active_step, layout, optimizer, variables


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    require_parameters(Variable._initialize, "self", "value")
    require_parameters(Variable._direct_assign, "self", "value")
    require_parameters(Variable._map_aggregation, "self", "aggregation")
    assert isinstance(keras.Variable(1.0), Variable)
    assert isinstance(vars(keras.Variable(1.0))["_value"], tf.Variable)


@pytest.mark.parametrize("aggregation", ["none", "sum", "mean", "only_first_replica"])
def test_aggregations_without_a_strategy_are_the_originals(aggregation):
    variable = keras.Variable(1.0)
    stock = original(Variable._map_aggregation)(variable, aggregation)
    assert variable._map_aggregation(aggregation) == stock
    with tf.distribute.MirroredStrategy(devices.PAIR[:1]).scope():
        assert variable._map_aggregation(aggregation) == stock
    with two_cpus().scope():
        mine = variable._map_aggregation(aggregation)
    first = aggregation == "only_first_replica"
    assert mine == (tf.VariableAggregation.NONE if first else stock)


@pytest.mark.parametrize("convert", [int, float])
def test_numbers_of_scalars_and_of_nothing_else(convert):
    def converted(value):
        return convert(keras.Variable(value, dtype="float32"))

    assert converted(3.0) == 3
    with two_cpus().scope():
        assert converted(3.0) == 3
    for value in ([3.0], [[3.0]], [1.0, 2.0], np.zeros([0])):
        with pytest.raises(TypeError, match="Only scalar arrays can be converted"):
            converted(value)
        with two_cpus().scope():
            with pytest.raises(TypeError, match="Only scalar arrays can be converted"):
                converted(value)


def test_a_variable_without_a_strategy_is_not_marked():
    metric = keras.Variable(0.0, trainable=False, synchronization="on_read", aggregation="sum")
    metric.assign(1.0)
    assert not any(name.startswith("_tfdist") for name in vars(metric.value))


def test_assigning_without_a_step_is_the_original():
    mine, stock = keras.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])
    mine.assign([3, 4])
    original(Variable._direct_assign)(stock, [3, 4])
    np.testing.assert_array_equal(mine, stock)
    assert variables.global_copy(mine) is None


class Step:
    collects_updates = False

    def __init__(self):
        self.added, self.assigned = [], []

    def note_addition(self, variable, amount):
        self.added.append((variable, amount))

    def note_assignment(self, variable, value):
        self.assigned.append((variable, value))

    def assign(self, variable, value):
        variable.value.assign(value)

    def reduce_gradients(self, gradients, optimizer):
        return gradients

    def before_update(self, optimizer, gradients, variables):
        return gradients

    def updated(self, optimizer, gradients, variables):
        return gradients, variables

    def update(self, optimizer, apply, gradients):
        return apply(gradients)


def test_the_step_hears_of_assignments_but_not_of_the_optimizers():
    variable, trained = keras.Variable(0.0), keras.Variable(0.0)
    step = Step()
    sgd = keras.optimizers.SGD(0.5)
    sgd.build([trained])
    with active_step.activate(step):
        variable.assign(2.0)
        variable.assign_add(1.0)
        sgd.apply([tf.constant(1.0)], [trained])
    variable.assign(5.0)
    assert [(v is variable, float(value)) for v, value in step.assigned] == [(True, 2), (True, 3)]
    assert [(v is variable, amount) for v, amount in step.added] == [(True, 1.0)]
    assert float(trained.value) == -0.5 and not optimizer.applying()


def test_a_global_copy_follows_assignments_from_outside_of_the_replicas():
    strategy = two_cpus()
    with strategy.scope():
        variable = keras.Variable(
            [0.0, 0.0], trainable=False, synchronization="on_read", aggregation="sum"
        )
        copy = tf.Variable([9.0, 9.0], trainable=False)
    variables.set_global_copy(variable, copy)
    assert variables.global_copy(variable) is copy
    assert variables.global_copy(variable.value) is copy
    with strategy.scope():
        variable.assign([4.0, 6.0])  # reset_state, set_weights
    np.testing.assert_array_equal(copy.read_value(), [4.0, 6.0])

    @tf.function
    def step():
        strategy.run(lambda: variable.assign([1.0, 1.0]))

    step()
    np.testing.assert_array_equal(copy.read_value(), [4.0, 6.0])  # the end of the step sets it
    np.testing.assert_array_equal(tf.add_n(list(variable.value.values)), [2.0, 2.0])


def test_the_state_of_metrics_is_the_same_on_all_workers_until_a_step_updates_it():
    strategy = two_cpus()
    with strategy.scope():
        metric = keras.Variable(0.0, trainable=False, synchronization="on_read", aggregation="sum")
        weight = keras.Variable(0.0)
    assert not variables.differs_between_workers(metric.value)
    assert variables.differs_between_workers(weight.value)  # not known
    with strategy.scope():
        metric.assign(0.0)
    assert not variables.differs_between_workers(metric.value)
    strategy.run(lambda: metric.assign(1.0))
    assert variables.differs_between_workers(metric.value)


def test_whose_state_is_its_replicas_own():
    with two_cpus().scope():
        lstm = keras.layers.LSTM(2, stateful=True)
        lstm.build((4, 3, 2))
        both = keras.layers.Bidirectional(keras.layers.GRU(2, stateful=True))
        both.build((4, 3, 2))
        layer = keras.layers.Layer()
        cache = layer.add_weight(shape=(4,), trainable=False, aggregation="none")
        default = layer.add_weight(shape=(4,), trainable=False)
        declared = layer.add_weight(shape=(4,), trainable=False, aggregation="mean")
    own = [*lstm.states, *both.forward_layer.states, *both.backward_layer.states, cache]
    for variable in own:
        assert layout.is_own(variable) and layout.is_own(variable.value)
    for variable in (default, declared, *lstm.trainable_variables):
        assert not layout.is_own(variable) and not layout.is_own(variable.value)


def test_a_variable_that_is_made_later_is_marked_then():
    layer = keras.layers.Layer()
    with keras.StatelessScope():
        cache = layer.add_weight(shape=(4,), trainable=False, aggregation="none")
    assert layout.is_own(cache.value)


def test_each_thing_is_asked_for_the_first_time_once():
    first, second = keras.Variable(0.0), keras.Variable(0.0)
    asked = [variables.first_time(v, what) for v in (first, second, first) for what in ("a", "b")]
    assert asked == [True, True, True, True, False, False]
