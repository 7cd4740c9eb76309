"""Gradient-sync algorithms on variables with constraints."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas

from tfdist.sync.constrained import ConstrainedVariable, constrained
from tfdist.sync.diloco import DiLoCo
from tfdist.sync.local_sgd import LocalSGD
from tfdist.sync.partial_sync import PartialSync

ALGORITHMS = {
    "LocalSGD": lambda: LocalSGD(2),
    "LocalSGD, slow momentum": lambda: LocalSGD(2, slow_momentum=0.5, slow_learning_rate=0.7),
    "DiLoCo": lambda: DiLoCo(2),
    "DiLoCo, 2 fragments": lambda: DiLoCo(2, fragments=2),
    "PartialSync": lambda: PartialSync(2, 2),
}
FIRST = np.array([[0.6, 0.0], [0.8, 1.0]])


def norms(variable):
    return np.linalg.norm(tf.convert_to_tensor(variable), axis=0)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_averaged_stays_within_its_constraint(name):
    def program(communicator):
        algorithm = ALGORITHMS[name]()
        unit = keras.Variable(FIRST, dtype="float64", trainable=True)
        unit.constraint = keras.constraints.UnitNorm(axis=0)
        free = keras.Variable(FIRST, dtype="float64")
        variables = constrained([unit, free])
        assert isinstance(variables[0], ConstrainedVariable) and variables[1] is free.value
        state = algorithm.init(variables)
        algorithm.start(state, variables)
        communicator.examples = tf.constant(2.0)
        seen = []
        for step in range(4):
            turn = 0.3 * (step + 1) * (1 if communicator.replica else -1)
            for variable in variables:  # an optimizer's update, and its constraint
                value = tf.convert_to_tensor(variable) + np.array([[turn, 0.2], [0.1, -turn]])
                variable.assign(value)
            algorithm.after_update(state, variables, communicator)
            seen.append((norms(unit), norms(free)))
            anchors = state.get("anchors")
            if anchors is not None and algorithm.agrees_at(step + 1):
                np.testing.assert_array_equal(anchors[0], unit)
        if not algorithm.agrees_at(4):
            algorithm.average(state, variables, communicator)
        seen.append((norms(unit), norms(free)))
        return seen

    for seen in on_replicas(2, program):
        for of_unit, _ in seen:
            np.testing.assert_allclose(of_unit, 1.0, rtol=1e-6)  # Keras' epsilon
        assert any(abs(of_free - 1.0).max() > 0.1 for _, of_free in seen)
