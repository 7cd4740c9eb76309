"""State that layers assign in the forward pass, and how it becomes that of one process.

Where the user has passed `add_weight(aggregation=...)`, that decides:

- "mean": the mean over replicas, each weighed by its number of examples;
- "sum": the old value, plus the sum of what each replica has added to it;
- "only_first_replica": the first replica's value;
- "none": each replica keeps its own (a cache with a row for each of its examples).

Where it was not passed, floating-point state is averaged (the moving statistics of
`BatchNormalization`), and what was added to an integer is summed where it depends on the
examples (how many there were), and done once where it does not (how many steps there were).
The states of a stateful RNN are its replica's own.

State of tfdist's own layers may also become the maximum, the minimum, or what a function makes
of all replicas' values (`sync/merging.py`).

Limits: an average that moves by `assign_add(rate * (x - mean))` cannot be told from a
counter, so `assign_add` to floating-point state without an `aggregation` is averaged, with a
warning. An integer that is assigned otherwise, from the examples, is left as each replica
has it, with a warning. With `run_eagerly=True` any tensor that is added to an integer counts
as one of the examples, and a Python number as the same for all.
"""

import warnings

import keras
import tensorflow as tf

from tfdist.compat import variables as compat_variables
from tfdist.compat.layout import is_own
from tfdist.sync.algorithm import new_variable, weighted_mean
from tfdist.sync.merging import merge_rule, merged

_TINY = 1e-9


class LayerState:
    """What the layers of one replica have assigned in one step.

    Args:
        variables: list of Keras variables that they may assign. Others are known when they
            are assigned, but not in a condition.
    """

    def __init__(self, variables=()):
        self._assigned = {}
        # Ids of the variables to which something was added: of each replica's examples, or
        # what is the same on all replicas.
        self._added, self._added_alike = set(), set()
        # Read here, since an assignment may stand in a condition of its own.
        self._before = {id(v): tf.convert_to_tensor(v.value) for v in variables if _needs_before(v)}
        # A stateful RNN's batch is a constant: so is what counts the examples behind it.
        own = [v.shape for v in variables if is_own(v)]
        self._rows = {shape[0] for shape in own if len(shape)}

    def note_assignment(self, variable, value):
        """A layer is about to assign `value` to `variable` (a Keras variable)."""
        if _is_apart(variable):
            return
        if _counts(variable) and id(variable) not in self._added | self._added_alike:
            added = compat_variables.added_to(variable, value)
            if added is not None:
                for amount in added:
                    self.note_addition(variable, amount)
            elif not compat_variables.is_alike(value) and not tf.executing_eagerly():
                _warn_of_integer(variable)
        if _needs_before(variable) and id(variable) not in self._before:
            # Not `value`, which is in the precision of the layer that assigns it.
            self._before[id(variable)] = tf.convert_to_tensor(compat_variables.held(variable))
        self._assigned[id(variable)] = variable

    def note_addition(self, variable, amount):
        """A layer adds `amount` to `variable`; its assignment follows."""
        alike = compat_variables.is_alike(amount) and not self._is_batch(amount)
        if _counts(variable):
            (self._added_alike if alike else self._added).add(id(variable))
        elif not alike and not _is_declared(variable) and not _is_apart(variable):
            _warn_of_addition(variable)

    def _is_batch(self, amount):
        """Whether a constant is the size of a replica's batch, where that is a constant."""
        value = compat_variables.constant(amount) if self._rows else None
        return value is not None and value.ndim == 0 and abs(value) in self._rows

    def assigned_ids(self):
        """The ids of the variables that were assigned."""
        return set(self._assigned)

    def sums(self):
        """The ids of the variables that become a sum."""
        return {id(v) for v in self._assigned.values() if _rule(v, self._added) == "sum"}

    def averaged(self):
        """List of the variables that become their mean over all examples."""
        return [v for v in self._assigned.values() if _rule(v, self._added) == "mean"]

    def summed(self, counts, is_first):
        """What replicas add up.

        Args:
            counts: scalar bool tensor, whether an example of this replica counts.
            is_first: scalar bool tensor, whether this is the first replica.

        Returns:
            A pair of lists: the variables, and a tensor for each.
        """
        variables, parts = [], []
        for variable in self._assigned.values():
            rule, value = _rule(variable, self._added), tf.convert_to_tensor(variable.value)
            wide = _wide(value.dtype)
            if rule == "sum":
                before = tf.cast(self._before[id(variable)], wide)
                part = tf.where(counts, tf.cast(value, wide) - before, tf.zeros_like(before))
            elif rule == "only_first_replica":
                part = tf.cast(value, wide)
                part = tf.where(is_first, part, tf.zeros_like(part))
            else:
                continue
            variables.append(variable)
            parts.append(part)
        return variables, parts

    def assign_merged(self, examples, communicator):
        """Merges what has a rule of its own, see `sync/merging.py`. Communicates if there is any.

        Args:
            examples: scalar int tensor, how many of this replica's examples count.
            communicator: a `Communicator`.
        """
        variables = [v for v in self._assigned.values() if _is_merged(v)]
        values = [
            tf.where(examples > 0, tf.convert_to_tensor(v.value), self._before[id(v)])
            for v in variables
        ]
        for variable, value in zip(variables, merged(variables, values, examples, communicator)):
            compat_variables.assign_own(variable.value, value)

    def assign_sums(self, variables, sums):
        """Gives the variables of `summed` their new values."""
        for variable, total in zip(variables, sums):
            if _rule(variable, self._added) == "sum":
                total += tf.cast(self._before[id(variable)], total.dtype)
            compat_variables.assign_own(variable.value, total)


class KeptState:
    """State of layers while replicas go their own ways: it agrees where their models do.

    Made in the scope of the strategy, in front of the first step.

    Args:
        variables: list of Keras variables that layers may assign.

    Attributes:
        averaged: list of the distributed variables that become their mean.
        own: list of those in which a checkpoint keeps the rest: how many examples each
            replica has seen since the last time, and what counters were then.
    """

    def __init__(self, variables):
        self.variables = list(variables)
        common = [v for v in variables if not _is_apart(v)]
        self.averaged = [v.value for v in common if _rule(v, ()) == "mean"]
        self._merged = [v for v in common if _is_merged(v)]
        self._counters = [v for v in common if _may_be_summed(v)]
        self._before = [new_variable(v.numpy()) for v in self._counters]
        self._examples = new_variable(tf.zeros([], tf.float64))
        self._sums = set()  # known where a step is traced
        self.own = [self._examples, *self._before]

    def agreed(self):
        """List of the distributed variables that become what they are over all replicas."""
        alike = [v.value for v in self._merged]
        return [*self.averaged, *alike, *(v.value for v, _ in self._counted())]

    def read(self):
        """The values in front of a step, of this replica."""
        return self._now(self._kept())

    def end_step(self, examples, before, state):
        """Counts a step of this replica; one without examples has changed nothing.

        Args:
            examples: scalar int tensor, how many of the replica's examples count.
            before: what `read` returned in front of the step.
            state: its `LayerState`.
        """
        self._sums |= state.sums()
        for variable, old in zip(self._kept(), before):
            now = tf.convert_to_tensor(variable)
            compat_variables.assign_own(variable, tf.where(examples > 0, now, old))
        self._examples.assign_add(tf.cast(examples, tf.float64))

    def synchronize(self, communicator):
        """Assigns what it is over all replicas, which go on from there."""
        self.assign_agreed(communicator)
        self._examples.assign(0)
        for variable, before in self._counted():
            before.assign(tf.convert_to_tensor(variable.value))

    def assign_agreed(self, communicator):
        """Assigns what it is over all replicas at this moment, and forgets nothing."""
        if self.averaged:
            # Replicas weigh alike where none has seen an example.
            weight = self._examples + _TINY
            means = weighted_mean(self._now(self.averaged), weight, communicator.all_reduce)
            for variable, mean in zip(self.averaged, means):
                compat_variables.assign_own(variable, mean)
        values = self._now(v.value for v in self._merged)
        merge = merged(self._merged, values, self._examples, communicator)
        for variable, value in zip(self._merged, merge):
            compat_variables.assign_own(variable.value, value)
        counted = self._counted()
        added = []
        for variable, before in counted:
            wide = _wide(before.dtype)
            added.append(tf.cast(variable.value, wide) - tf.cast(before, wide))
        for (variable, before), total in zip(counted, communicator.all_reduce(added)):
            total += tf.cast(before, total.dtype)
            compat_variables.assign_own(variable.value, total)

    def _counted(self):
        pairs = zip(self._counters, self._before)
        return [(v, before) for v, before in pairs if id(v) in self._sums]

    @staticmethod
    def _now(variables):
        return [tf.convert_to_tensor(variable) for variable in variables]

    def _kept(self):
        return [*self.averaged, *(v.value for v in (*self._counters, *self._merged))]


def _is_apart(variable):
    """Whether replicas keep `variable` for themselves, at least until it is read."""
    return variable.synchronization == "on_read" or is_own(variable)


def _counts(variable):
    """Whether `variable` is an integer without an `aggregation`."""
    is_float = keras.backend.is_float_dtype(variable.dtype)
    return not _is_declared(variable) and not is_float and not _is_apart(variable)


def _is_declared(variable):
    """Whether it was said how `variable` becomes that of all replicas."""
    return variable.aggregation != "none" or merge_rule(variable) is not None


def _may_be_summed(variable):
    if _is_merged(variable):
        return False
    return _counts(variable) or (variable.aggregation == "sum" and not _is_apart(variable))


def _is_merged(variable):
    return merge_rule(variable) is not None and not _is_apart(variable)


def _needs_before(variable):
    return _may_be_summed(variable) or _is_merged(variable)


def _rule(variable, added):
    if merge_rule(variable) is not None:
        return "merge"
    if variable.aggregation != "none":
        return variable.aggregation
    if keras.backend.is_float_dtype(variable.dtype):
        return "mean"
    return "sum" if id(variable) in added else None


def _wide(dtype):
    """A dtype that collectives sum, and that holds the sum."""
    if dtype.is_floating:
        return tf.float32 if dtype.size < 4 else dtype
    return tf.int64 if dtype.size == 8 or dtype == tf.uint32 else tf.int32


def _warn_of_addition(variable):
    if compat_variables.first_time(variable, "addition"):
        warnings.warn(
            f"The layer state {variable.path!r} is changed by `assign_add`, which does not say "
            "whether it counts something or follows an average; it is averaged over replicas. "
            'Pass `aggregation="sum"` to its `add_weight` if it is a sum over the batch, or '
            '"mean" if it is an average.',
            stacklevel=2,
        )


def _warn_of_integer(variable):
    if compat_variables.first_time(variable, "integer"):
        warnings.warn(
            f"The layer state {variable.path!r} is an integer that is assigned a value which "
            "depends on the examples, so that replicas hold different ones. Pass "
            '`aggregation="only_first_replica"` to its `add_weight` if any of them will do, '
            '"sum" if replicas add to it, or "none" if each replica needs its own.',
            stacklevel=2,
        )
