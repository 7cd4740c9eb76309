import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from upstream import require

from tfdist.compat import graphs


def traced(function, *arguments):
    """What `function` returns where it is traced, with tensors of unknown batch size."""
    found = []

    def traced(*arguments):
        found.append(function(*arguments))
        return tf.zeros([])

    specs = [tf.TensorSpec([None, *np.shape(a)[1:]], tf.float32) for a in arguments]
    tf.function(traced, autograph=False).get_concrete_function(*specs)
    return found[0]


def test_upstream():
    with tf.Graph().as_default() as graph:
        require(tf.constant(1.0).op, "_id")
        require(graph, "_functions")
    assert op_def_registry.get("ReadVariableOp").is_stateful

    def function():
        require(tf.compat.v1.get_default_graph(), "captures")
        return tf.zeros([])

    traced(function)


X = np.ones((3, 2), "float32")


def test_what_depends_on_data():
    weight = tf.Variable(2.0)

    def function(x):
        outer = []
        tf.function(lambda: outer.append(graphs.depends_on_data(weight + 1.0)) or 0.0)()
        values = {
            "number": 3,
            "array": np.ones(3),
            "constant": tf.constant(1.0) * 2.0,
            "variable": tf.cond(weight > 0.0, lambda: weight * 2.0, lambda: 0.0),
            "data": x[0],
            "shape": tf.shape(x)[0],
            "random": tf.random.normal([2]),
            "while": tf.while_loop(lambda i: i < weight, lambda i: i + 1.0, [0.0])[0],
            "condition": tf.cond(weight > 0.0, lambda: x[0], lambda: x[1]),
            "random condition": tf.cond(weight > 0.0, lambda: tf.random.normal([]), lambda: 0.0),
            "Python": tf.numpy_function(lambda: np.float32(1), [], "float32"),
        }
        found = {name: graphs.depends_on_data(value) for name, value in values.items()}
        return {**found, "variable in a function": outer[0]}

    found = traced(function, X)
    alike = {"number", "array", "constant", "variable", "while", "variable in a function"}
    assert {name for name, depends in found.items() if not depends} == alike
    assert graphs.depends_on_data(tf.constant(1.0))  # outside of a graph nothing is known
    assert not graphs.depends_on_data(1.0)


def test_what_is_added_to_a_variable():
    variable, other = tf.Variable(2), tf.Variable(2)

    def function(x):
        rows, one = tf.shape(x)[0], tf.constant(1)
        sums = {
            "alone": (tf.identity(variable), []),
            "plus": (variable + rows, [rows]),
            "behind": (rows + tf.identity(variable), [rows]),
            "minus": (variable - rows, [rows]),
            "twice": ((one + variable) - rows, [one, rows]),
            "cast": (tf.cast(tf.cast(variable, "int32") + rows, "int64"), [rows]),
        }
        others = [rows - variable, variable * 2 + rows, other + rows, rows]
        found = {name: graphs.added(value, variable) for name, (value, _) in sums.items()}
        for name, (_, expected) in sums.items():
            assert len(found[name]) == len(expected), name
            assert all(a is b for a, b in zip(found[name], expected)), name
        return [graphs.added(value, variable) for value in others]

    assert traced(function, X) == [None] * 4
    assert graphs.added(tf.constant(1), variable) is None


@pytest.mark.parametrize("inside", ["here", "in a function", "compiled by XLA"])
def test_a_derivation_computes_again(inside):
    kept, replaced = tf.Variable(3.0), tf.Variable(5.0)

    def leaf(tensor):
        return "leaf" if graphs.read_handle(tensor.op) in graphs.handles_of(replaced) else None

    def compute(x):
        value = kept.read_value() * replaced.read_value() + tf.constant(1.0)
        value = tf.cond(value > 100.0, lambda: value * 2.0, lambda: value)
        derivation = graphs.Derivation(value, leaf, lambda operation: True)
        found.append(derivation)
        found.append(graphs.Derivation(value + x[0, 0], leaf, lambda operation: True))
        found.append(graphs.Derivation(value, leaf, lambda operation: False))
        return derivation.extras

    found = []
    if inside != "here":
        inner = tf.function(compute, autograph=False, jit_compile="XLA" in inside)
    else:
        inner = compute

    @tf.function(autograph=False)
    def function(x):
        extras = inner(x)
        kept.assign(-1.0)  # later than what was read
        return found[0].compute({"leaf": tf.constant(70.0)}, extras)

    assert float(function(X)) == 2 * (3 * 70 + 1)
    kept.assign(3.0)
    assert float(function(10 * X)) == 2 * (3 * 70 + 1)
    assert [derivation.is_complete for derivation in found[:3]] == [True, False, False]
    assert list(found[0].leaves) == ["leaf"] and len(found[0].extras) == 1


def test_constants():
    weight = tf.Variable(2.0)

    def function(x):
        static = tf.ensure_shape(x, [5, 2])
        values = [
            tf.shape(static)[0],
            tf.cast(tf.shape(static)[0], "float32") * 2.0,
            3,
            weight + 1.0,
        ]
        return [graphs.constant(value) for value in [*values, tf.shape(x)[0]]]

    assert traced(function, X) == [5, 10.0, 3, None, None]
    assert graphs.constant(tf.constant(1)) is None


def test_what_stands_behind_a_position():
    def function(x):
        before = tf.constant(1.0).op
        here = graphs.position()
        behind = tf.constant(2.0).op
        return graphs.is_behind(before, here), graphs.is_behind(behind, here)

    assert traced(function, X) == (False, True)


def test_factors_of_a_loss():
    def function(x):
        mean = tf.reduce_mean(x**2 * 0.25)
        right = tf.reduce_sum(x) / 7.0
        loss = tf.cast(mean * 0.5, "float32") + tf.reduce_sum(x / 8.0) + right / 3.0
        factors = graphs.Factors(loss, stops={id(right)})
        return sorted(factors.found, key=lambda one: one[1])

    assert traced(function, X) == [
        ("*", 0.25, 2),
        ("*", 0.5, 0),
        ("/", 3.0, 0),
        ("/", 8.0, 2),
    ]
