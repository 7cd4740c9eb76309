"""What a tensor of a traced step was computed from, and the same computation on other values.

Needs: the order of a graph's operations (`Operation._id`), `FuncGraph.captures`,
`Graph._get_function` (the graph of a function that is called),
`Graph._functions` with their `add_to_graph` and `cached_definition`, and TensorFlow's
registry of operations; `FuncGraph.outer_graph` and the class of a loop's body.
Why: whether a number that a step returns comes from its metrics alone, or whether what a
layer adds to a counter depends on the examples, is written in the graph and nowhere else.

Limits: outside of a graph (`run_eagerly=True`) nothing is known.
"""

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.ops.control_flow_v2_func_graphs import WhileBodyFuncGraph

_READ = "ReadVariableOp"


def in_graph(tensor):
    """Whether `tensor` is one of a graph, of which the functions here know something."""
    return isinstance(tensor, tf.Tensor) and hasattr(tensor, "graph")


def called(operation):
    """The graph of the function that an operation calls; None if it calls none."""
    if operation.type not in ("PartitionedCall", "StatefulPartitionedCall"):
        return None
    return getattr(operation.graph._get_function(operation.get_attr("f").name), "graph", None)


def in_a_loop():
    """Whether what is made at this moment is the body of a loop of the graph."""
    return any(isinstance(graph, WhileBodyFuncGraph) for graph in _graphs())


def _graphs():
    """This graph, and those around it."""
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def position(graph=None):
    """Where a graph ends at this moment: operations that are made later stand behind it."""
    graph = graph or tf.compat.v1.get_default_graph()
    operations = graph.get_operations()
    return graph, operations[-1]._id if operations else -1


def is_behind(operation, position):
    """Whether `operation` was made behind `position`; true where they cannot be compared."""
    graph, last = position
    return operation.graph is not graph or operation._id > last


def outermost(tensor):
    """What a captured tensor stands for in the function that captured it; else `tensor`."""
    while in_graph(tensor) and tensor.op.type == "Placeholder":
        outside = [
            outer for outer, inner in getattr(tensor.graph, "captures", ()) if inner is tensor
        ]
        if not outside:
            return tensor
        (tensor,) = outside
    return tensor


def handles_of(variable):
    """The ids by which `read_handle` names the parts of a distributed variable."""
    return [id(part.handle) for part in getattr(variable, "values", (variable,))]


def read_handle(operation):
    """The id of the variable that `operation` reads; None if it reads none."""
    return id(outermost(operation.inputs[0])) if operation.type == _READ else None


def depends_on_data(tensor):
    """Whether `tensor` may differ between replicas that hold the same variables.

    It does if it was computed from an argument of the step, from random numbers, or by
    Python code. Outside of a graph: true for a tensor, false for a Python number.
    """
    if not isinstance(tensor, (tf.Tensor, tf.IndexedSlices, tf.RaggedTensor, tf.SparseTensor)):
        return False
    parts = tf.nest.flatten(tensor, expand_composites=True)
    return any(_depends_on_data(part) for part in parts)


def _depends_on_data(tensor):
    if not in_graph(tensor):
        return True
    seen, waiting = set(), [tensor]
    while waiting:
        tensor = outermost(waiting.pop())
        if not in_graph(tensor) or id(tensor.op) in seen:
            continue  # a constant from outside of all graphs
        operation = tensor.op
        seen.add(id(operation))
        if operation.type == _READ:
            continue
        if operation.type.startswith("Placeholder") or _has_memory(operation):
            return True
        waiting += operation.inputs
    return False


# Operations that call functions; their own mark says "stateful" even where those only read.
_CALLS = ("If", "While", "Case", "PartitionedCall", "StatefulPartitionedCall")


def _has_memory(operation):
    """Whether `operation`, or a function that it calls, does more than to read variables."""
    if operation.type not in _CALLS:
        return operation.op_def.is_stateful
    called = [a.func.name for a in operation.node_def.attr.values() if a.HasField("func")]
    nodes, seen = [], set()
    while called:
        name = called.pop()
        function = operation.graph._functions.get(name)
        if function is None:
            return True
        if name not in seen:
            seen.add(name)
            inner = function.cached_definition.node_def
            nodes += inner
            called += [a.func.name for n in inner for a in n.attr.values() if a.HasField("func")]
    read_or_call = (_READ, *_CALLS)
    return any(n.op not in read_or_call and _is_stateful(n.op) for n in nodes)


def _is_stateful(name):
    definition = op_def_registry.get(name)
    return definition is None or definition.is_stateful


def added(tensor, variable):
    """What `tensor` is more than the value of a distributed variable.

    Returns:
        A list of tensors, all that is added or taken away; None if it is no such sum.
    """
    if not in_graph(tensor):
        return None
    operation = tensor.op
    if operation.type in ("Identity", "Cast"):
        return added(operation.inputs[0], variable)
    if operation.type == _READ:
        return [] if read_handle(operation) in handles_of(variable) else None
    if operation.type not in ("AddV2", "Add", "Sub"):
        return None
    first, second = operation.inputs
    pairs = [(first, second)] if operation.type == "Sub" else [(first, second), (second, first)]
    for part, other in pairs:
        more = added(part, variable)
        if more is not None:
            return [*more, other]
    return None


class Derivation:
    """A tensor as a function of some that it was computed from.

    Args:
        tensor: a tensor of a graph.
        leaf: function of a tensor; where it is computed from, and goes no further: a
            key of the user's choice, or None to look behind it.
        kept: function of an operation that reads a variable; whether its value may be
            used as it is.

    Attributes:
        is_complete: whether `tensor` depends on nothing but leaves, constants and what
            is kept.
        leaves: dict of the leaves that were found, tensors by the keys.
        extras: list of what was kept, tensors of the same graph.
    """

    def __init__(self, tensor, leaf, kept):
        self._tensor = tensor
        self._stop = {}  # id of a tensor -> key of a leaf, or place in `extras`
        self.leaves, self.extras = {}, []
        self.is_complete = self._walk(leaf, kept)

    def _walk(self, leaf, kept):
        seen, waiting = set(), [self._tensor]
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            key = leaf(tensor)
            if key is not None:
                self.leaves[key] = tensor
                self._stop[id(tensor)] = ("leaf", key)
                continue
            operation = tensor.op
            if operation.type == _READ and kept(operation):
                self._stop[id(tensor)] = ("extra", len(self.extras))
                self.extras.append(tensor)
                continue
            if operation.type == "Placeholder":
                outside = outermost(tensor)
                if in_graph(outside):
                    return False  # an argument, or something of the function around this one
                self._stop[id(tensor)] = ("constant", outside)
                continue
            if operation.op_def.is_stateful:
                return False
            waiting += operation.inputs
        return True

    def compute(self, leaves, extras):
        """The tensor anew, in the present graph.

        Args:
            leaves: dict of values by the keys of `self.leaves`.
            extras: list of the values of `self.extras`.
        """
        graph, made = tf.compat.v1.get_default_graph(), {}

        def value_of(tensor):
            kind, what = self._stop.get(id(tensor), (None, None))
            if kind == "leaf":
                return tf.cast(leaves[what], tensor.dtype)
            if kind == "extra":
                return extras[what]
            if kind == "constant":
                return what
            operation = tensor.op
            if id(operation) not in made:
                inputs = [value_of(part) for part in operation.inputs]
                made[id(operation)] = _copy(operation, inputs, graph)
            return made[id(operation)].outputs[tensor.value_index]

        return value_of(self._tensor)


def constant(tensor):
    """The NumPy value of a tensor that was computed from constants alone; else None."""
    if not in_graph(tensor):
        return None if isinstance(tensor, tf.Tensor) else np.asarray(tensor)
    derivation = Derivation(tensor, leaf=lambda tensor: None, kept=lambda operation: False)
    if not derivation.is_complete:
        return None
    with tf.init_scope():
        compute = tf.function(lambda: derivation.compute({}, []), autograph=False)
        return compute.get_concrete_function()().numpy()


def _copy(operation, inputs, graph):
    attributes = {k: v for k, v in operation.node_def.attr.items() if not k.startswith("_class")}
    for attribute in attributes.values():
        for name in (attribute.func.name, *(func.name for func in attribute.list.func)):
            function = operation.graph._functions.get(name)
            if function is not None and name not in graph._functions:
                function.add_to_graph(graph)
    with graph.device(operation.device):
        return graph.create_op(
            operation.type,
            [tf.convert_to_tensor(value) for value in inputs],
            [output.dtype for output in operation.outputs],
            attrs=attributes,
        )


# Operations that pass a loss on as a part of what they return.
_PARTS = {
    *("Identity", "Cast", "Neg", "Reshape", "Squeeze", "ExpandDims", "Pack", "StopGradient"),
    *("AddV2", "Add", "AddN", "Sub", "Sum", "Mean"),
}
_PRODUCTS = {"Mul": "*", "MulNoNan": "*", "RealDiv": "/", "Div": "/", "DivNoNan": "/"}


class Factors:
    """By which constants a loss was multiplied or divided on its way.

    Args:
        loss: a tensor of a graph.
        stops: the ids of tensors to which the way is not followed.
        ends: the ids of tensors where it ends.

    Attributes:
        found: list of `(sign, number, rank)`: "*" or "/", a float, and the rank of what
            was multiplied or divided; None where it is not known.
        passed: list of the tensors on the way.
    """

    def __init__(self, loss, stops=(), ends=()):
        self.found, self.passed = [], []
        seen, waiting = set(), [loss]
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in seen or id(tensor) in stops or not in_graph(tensor):
                continue
            seen.add(id(tensor))
            self.passed.append(tensor)
            if id(tensor) in ends:
                continue
            operation = tensor.op
            if operation.type in _PARTS:
                waiting += operation.inputs
            elif operation.type in _PRODUCTS:
                waiting += self._factors(operation)

    def _factors(self, operation):
        first, second = operation.inputs
        for part, other in ((first, second), (second, first)):
            number = _number(other)
            if number is not None and (part is first or operation.type in ("Mul", "MulNoNan")):
                self.found.append((_PRODUCTS[operation.type], number, part.shape.rank))
                return [part]
        return [first] if _PRODUCTS[operation.type] == "/" else [first, second]


def _number(tensor):
    """The constant that a scalar tensor is, as a float; None if it is none."""
    value = tf.get_static_value(tensor) if tensor.shape.rank == 0 else None
    return None if value is None else float(value)
