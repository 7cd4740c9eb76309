"""Whoever communicates has the methods of the protocol, with its parameters."""

import inspect

import pytest
import tensorflow as tf
from signatures import arguments_of
from simulated import SimulatedCommunicator, on_replicas

from tfdist.sync.communicator import ReplicaCommunicator
from tfdist.sync.protocol import Communicator

METHODS = {
    name: function
    for name, function in vars(Communicator).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


def test_what_the_protocol_has():
    assert sorted(METHODS) == ["all_gather", "all_reduce", "all_to_all", "group_sum"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("implementation", [ReplicaCommunicator, SimulatedCommunicator])
def test_methods_have_the_parameters_of_the_protocol(implementation, name):
    own = vars(implementation)[name]
    assert arguments_of(own) == arguments_of(METHODS[name])


def test_both_have_the_attributes():
    (simulated,) = on_replicas(1, lambda communicator: communicator)
    for communicator in (ReplicaCommunicator(1), simulated):
        assert isinstance(communicator, Communicator)
        assert communicator.num_replicas == 1
        assert communicator.replica_id.dtype == tf.int32 and int(communicator.replica_id) == 0
        assert communicator.examples is None
