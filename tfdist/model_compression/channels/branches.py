"""Residual branches: what a model adds to a tensor, and can do without.

Limits: the branches of functional models, and of functional models that they call. One that
computes something of nothing (an activation with f(0) != 0 at its end, a normalization without a
scale) cannot be masked, and one that holds others is not looked at: they are.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import keras
import numpy as np

from tfdist.compat.functional_calls import Call, calls_of, functional_of, is_addition
from tfdist.compat.layers import all_layers, own_variables, own_weights
from tfdist.model_compression.channels.groups import Group, Member, Producer
from tfdist.model_compression.inference_graph import sizes_of
from tfdist.model_compression.pruning.weights import Skipped, kernel_names


@dataclasses.dataclass(frozen=True)
class Branch:
    """What stands between a tensor and the sum in which it is added to that tensor.

    Attributes:
        name: str, the sum's.
        sum: the `Call` of the addition.
        place: int, which of the inputs of the sum is the shortcut.
        calls: list of `Call`, what the branch computes.
        layers: list of Keras layers, those inside of others, too.
    """

    name: str
    sum: Call
    place: int
    calls: list[Call]
    layers: list[keras.Layer]

    @property
    def kernels(self) -> list[tuple[keras.Layer, keras.Variable]]:
        """Its kernels, with their layers."""
        return [
            (layer, getattr(layer, name)) for layer in self.layers for name in kernel_names(layer)
        ]

    @property
    def weights(self) -> list[tuple[keras.Layer, keras.Variable]]:
        """What is zero when the branch is masked: all that is trained but single numbers."""
        return [(one, v) for one in self.layers for v in own_weights(one) if len(v.shape)]

    @property
    def is_zero(self) -> bool:
        return not any(variable.numpy().any() for _, variable in self.weights)


def as_group(branches: list[Branch]) -> Group:
    """All branches as one `Group`, in which each is a channel."""
    members = [
        Member(variable, 0, np.full(variable.shape[0], number, np.int64), layer)
        for number, branch in enumerate(branches)
        for layer, variable in branch.weights
    ]
    producers = [Producer(layer, kernel, 0) for one in branches for layer, kernel in one.kernels]
    return Group(producers, len(branches), members)


def branches_of(model: keras.Model) -> tuple[list[Branch], list[Skipped]]:
    """The branches of a model that can go, and the sums that have none, with the reason."""
    every = all_layers(model)
    graphs = list(
        {id(g): (one, g) for one in every if (g := functional_of(one)) is not None}.values()
    )
    calls = [(owner, graph, calls_of(graph)) for owner, graph in graphs]
    uses = _uses([call for *_, of_one in calls for call in of_one], every)
    candidates, skipped = [], []
    for owner, graph, of_one in calls:
        prefix = "" if owner is model else f"{owner.name}/"
        for branch, reason in _candidates(graph, of_one, prefix):
            reason = reason or _refusal(branch, uses)
            if reason is None:
                candidates.append(branch)
            else:
                skipped.append(Skipped(branch if isinstance(branch, str) else branch.name, reason))
    found = []
    for branch in candidates:
        own = {id(call.operation) for call in branch.calls} | {id(one) for one in branch.layers}
        if any(_within(other, own) for other in candidates if other is not branch):
            skipped.append(Skipped(branch.name, "it holds branches that can go by themselves"))
        else:
            found.append(branch)
    return found, skipped


def _within(branch, operations):
    return all(id(call.operation) in operations for call in branch.calls)


def _uses(calls, every):
    """How often each operation and each layer is called, and each variable owned, by its id."""
    uses: collections.Counter = collections.Counter()
    seen: set[int] = set()
    for call in calls:
        is_model = functional_of(call.operation) is not None
        again = id(call.operation) in seen
        seen.add(id(call.operation))
        uses[id(call.operation)] += 1
        if isinstance(call.operation, keras.Layer) and (again or not is_model):
            # Calls inside of a model are its own, however often it is called.
            for layer in all_layers(call.operation):
                if layer is not call.operation:
                    uses[id(layer)] += 1
    for layer in every:
        for variable in own_variables(layer):
            uses[id(variable)] += 1
    return uses


def _candidates(graph, calls, prefix):
    """A `Branch` and None for each sum of two that has one; else its name and the reason."""
    depends: dict[int, set[int]] = collections.defaultdict(set)  # by a tensor's id
    readers: dict[int, list[Call]] = collections.defaultdict(list)
    for call in calls:
        of_call = {id(x) for x in call.inputs}.union(*(depends[id(x)] for x in call.inputs))
        for tensor in call.outputs:
            depends[id(tensor)] = of_call
        for tensor in call.inputs:
            readers[id(tensor)].append(call)
    outputs = {id(tensor) for tensor in graph.outputs}
    for total in calls:
        if not is_addition(total.operation):
            continue
        name = prefix + total.operation.name
        if len(total.inputs) != 2 or total.inputs[0] is total.inputs[1]:
            yield name, f"it sums {len(total.inputs)} tensors, or one with itself; expected two"
            continue
        one, other = total.inputs
        if id(one) in depends[id(other)]:
            place, start, end = 0, one, other
        elif id(other) in depends[id(one)]:
            place, start, end = 1, other, one
        else:
            yield name, "neither of what it sums is computed of the other: there is no shortcut"
            continue
        before_end = depends[id(end)] | {id(end)}
        inside = [
            call
            for call in calls
            if any(id(x) in before_end and id(start) in depends[id(x)] for x in call.outputs)
        ]
        layers = list(
            dict.fromkeys(
                layer
                for call in inside
                if isinstance(call.operation, keras.Layer)
                for layer in all_layers(call.operation)
            )
        )
        branch = Branch(name, total, place, inside, layers)
        yield branch, _read_elsewhere(branch, readers, outputs)


def _read_elsewhere(branch, readers, outputs):
    if branch.sum.inputs[0].shape != branch.sum.inputs[1].shape:
        return "what it sums is of two shapes"
    within = {id(call) for call in [*branch.calls, branch.sum]}
    for call in branch.calls:
        for tensor in call.outputs:
            if id(tensor) in outputs:
                return f"what {call.operation.name} returns is an output of the model"
            for reader in readers[id(tensor)]:
                if id(reader) not in within:
                    return f"{reader.operation.name} reads what {call.operation.name} returns, too"
    return None


def _refusal(branch, uses):
    for one in [branch.sum.operation, *(c.operation for c in branch.calls), *branch.layers]:
        if uses[id(one)] > 1:
            return f"{one.name} is called in more than one place"
    for layer in branch.layers:
        if any(uses[id(variable)] > 1 for variable in own_variables(layer)):
            return f"{layer.name} shares weights with another layer"
    if not branch.kernels:
        return "no kernel that is known in the branch"
    return _added_by_zeros(branch)


def _added_by_zeros(branch):
    """Why it does not add exactly 0 when its weights are; None if it does."""
    masked = {id(variable) for _, variable in branch.weights}
    random = np.random.default_rng(0)
    values: list[tuple[Any, Any]] = []
    for variable in {id(v): v for layer in branch.layers for v in layer.variables}.values():
        if id(variable) in masked:
            values.append((variable, np.zeros(variable.shape)))
        elif "float" in str(variable.dtype):  # statistics, whatever they will be
            values.append((variable, random.uniform(0.5, 1.5, variable.shape)))
        else:
            values.append((variable, variable.numpy()))
    end = branch.sum.inputs[1 - branch.place]
    try:
        for training in (False, True):
            with keras.StatelessScope(state_mapping=values):
                if np.any(_value_of(branch, end, training, random) != 0):
                    last = branch.calls[-1].operation.name
                    return f"{last} returns something else than 0 when the branch's weights are 0"
    except Exception as error:  # whatever a layer raises that is called by itself
        return f"it cannot be computed by itself: {str(error).strip().splitlines()[0]}"
    return None


def _value_of(branch, end, training, random):
    values: dict[int, Any] = {}
    for call in branch.calls:
        for tensor in call.inputs:
            if id(tensor) not in values:
                shape = sizes_of(tensor.shape, 2)
                whole = "int" in tensor.dtype or tensor.dtype == "bool"
                value = random.integers(0, 2, shape) if whole else random.normal(size=shape)
                values[id(tensor)] = keras.ops.convert_to_tensor(value.astype(tensor.dtype))
        returned = call.again(values, training)
        values |= {id(tensor): value for tensor, value in zip(call.outputs, returned)}
    return np.asarray(keras.ops.cast(values[id(end)], "float64"))
