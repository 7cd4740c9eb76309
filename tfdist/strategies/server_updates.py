"""How updates of asynchronous steps reach variables on parameter servers: one at a time.

- **A variable**, with its optimizer's slots, is updated under a lock of its own on its server:
  what other steps do to other variables meanwhile does not matter to most optimizers.
- **A whole optimizer** is applied under one lock where it assigns anything outside of a
  variable's update (constraints, moving averages of weights, Nadam's product, Muon's weight
  decay): the steps' updates then follow each other in the order of their versions. So it is
  where it updates a variable twice (weight decay, and then the gradient): steps that take a
  lock twice stand still together sooner or later (seen on TensorFlow 2.21; why is not known).
- **A claim** comes first: the step's number is noted under the lock of `iterations`, which counts
  on. A step that runs again finds its number there, and applies nothing.
- **What else a step assigns** (see `sync/staleness.py`) needs no lock: it is added, or it
  overwrites.
"""

import collections
import contextlib
import uuid

import tensorflow as tf

# Numbers that the parameter server remembers; far more than are out at once.
SLOTS = 2**16


class ServerUpdates:
    """The locks and claims of a `ParameterServerStrategy`, its `strategy`."""

    def __init__(self, strategy):
        self._strategy = strategy
        self._locks, self._taken = {}, {}
        self._as_a_whole = {}  # by id of an optimizer: the optimizer, and a dict by places
        self._held = 0  # how many locks what is traced at this moment holds
        self._locked = set()  # names of the operations that were traced under one
        self._times = collections.Counter()  # how often each lock was taken in what is traced

    def add_lock(self, variable):
        """Gives a new variable its lock."""
        # With a name of its own: those without share one lock.
        with tf.device(variable.device):
            self._locks[variable.handle.ref()] = tf.CriticalSection(shared_name=uuid.uuid4().hex)

    def build(self, optimizer, variables):
        """Builds an optimizer that a step applies for the first time, while it is traced."""
        with tf.init_scope(), self._strategy.scope():
            optimizer.build(variables)

    def of_variable(self, variable, update):
        """Calls `update()`, of a variable, in one piece."""
        known = variable.handle.ref() in self._locks
        if not known or self._held or tf.executing_eagerly():
            return update()

        def updated():
            update()  # what it returns is of no use to Keras
            return tf.constant(True)

        self.under_lock_of(variable, updated)
        return None

    def under_lock_of(self, variable, function):
        """Calls `function()` while nobody updates `variable`; returns what it returns."""
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        self._times[variable.handle.ref()] += 1
        with self._holding():
            results = in_one_piece(self._locks[variable.handle.ref()], function)
        self._locked |= {op.name for op in graph.get_operations()[before:]}
        return results

    def of_optimizer(self, optimizer, function):
        """Calls `function()` while no other step claims a number of `optimizer`.

        Args:
            optimizer: a Keras optimizer of the strategy.
            function: returns a structure of tensors.
        """
        return self.under_lock_of(optimizer.iterations.value, function)

    def is_applied_as_a_whole(self, optimizer, place, apply):
        """Whether `optimizer` assigns outside of the update of a variable, or updates one twice.

        Args:
            optimizer: a Keras optimizer of the strategy.
            place: int, which of the step's updates by this optimizer it is.
            apply: function that applies it; traced once, for a graph that never runs.
        """
        _, known = self._as_a_whole.setdefault(id(optimizer), (optimizer, {}))
        if place not in known:
            self._locked, self._times = set(), collections.Counter()
            graph = tf.function(apply, autograph=False).get_concrete_function().graph
            outside = [op for op in graph.get_operations() if op.name not in self._locked]
            twice = any(times > 1 for times in self._times.values())
            known[place] = twice or any(map(_writes, outside))
        return known[place]

    def claim(self, optimizer, number):
        """Claims a number; under the lock of `of_optimizer`.

        Args:
            optimizer: a Keras optimizer of the strategy.
            number: scalar int64 tensor.

        Returns:
            A pair of scalar tensors, `(is_first, version)`: whether the number was not claimed
            before, and how many updates were claimed before it.
        """
        iterations, taken = optimizer.iterations.value, self._taken_of(optimizer)
        with tf.device(iterations.device):
            slot = number % SLOTS
            is_first = tf.gather(taken, slot) != number
            version = tf.cast(iterations.read_value(), tf.int64)
            taken.scatter_nd_update([[slot]], [number])
            iterations.assign_add(tf.cast(is_first, iterations.dtype))
        return is_first, version

    def _taken_of(self, optimizer):
        if id(optimizer) not in self._taken:
            # A scope that is open has its say, whatever is open in the graph.
            with tf.init_scope(), self._strategy.scope():
                beside = self._strategy.extended.colocate_vars_with
                with beside(optimizer.iterations.value):
                    none = tf.fill([SLOTS], tf.constant(-1, tf.int64))
                    taken = tf.Variable(none, trainable=False)
            self._taken[id(optimizer)] = optimizer, taken
        return self._taken[id(optimizer)][1]

    @contextlib.contextmanager
    def _holding(self):
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1


_READERS = ("ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape")


def _writes(operation):
    """Whether an operation may change a variable that is not its graph's own."""
    of_others = [
        tensor
        for tensor in operation.inputs
        if tensor.dtype == tf.resource and tensor.op.type != "VarHandleOp"
    ]
    return bool(of_others) and operation.type not in _READERS


def in_one_piece(lock, function):
    """Calls `function` under `lock`, a `tf.CriticalSection`, in a graph.

    The lock waits for what it returns alone; here for all that it does.
    """
    graph = tf.compat.v1.get_default_graph()

    def locked():
        before = len(graph.get_operations())
        results = function()
        new = [op for op in graph.get_operations()[before:] if op.type != "Placeholder"]
        with tf.control_dependencies(new):
            return tf.nest.map_structure(tf.identity, results)

    return lock.execute(locked, exclusive_resource_access=False)
