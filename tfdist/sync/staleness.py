"""Asynchronous steps: what a parameter server knows of them, and how stale they may be.

A worker reads the weights at version v (the number of updates so far), computes a
gradient, and applies it when the version is v': its staleness is v' - v, the number
of other steps that were applied in between.

**At most once.** A step has a number. In front of its update it claims the number at
the parameter server, under a lock: the version counts on, and whoever comes with
the same number again (the step was repeated, since its worker died behind the claim)
finds it taken and applies nothing.

**Bounded staleness** (stale synchronous parallel, Ho et al., NIPS 2013). Let step i be
handed out when `finished(i)` steps were known to be done, and n steps be handed out
altogether. What can be applied between its reading and its own update are the others
of the n that were not done by then: n - 1 - finished(i). So a further step is handed
out only if that stays within the bound for all steps that are out. No clock is compared
and no parameter server asked: the bound holds whatever the workers' speeds.

**Scaling** (Zhang et al., 1511.05950): the learning rate of a step is divided by
max(1, staleness).

Limits: a worker that dies between its claim and the end of its update leaves an
update that is counted and missing, in part or as a whole; never one that is applied
twice.
"""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdist.sync.communicator import ReplicaCommunicator
from tfdist.sync.step import KerasStep

# Numbers of steps that the parameter server remembers; far more than are out at once.
SLOTS = 4096


class AsyncStep(KerasStep):
    """One worker's step: its update is claimed, then applied in place.

    Args:
        number: scalar int64 tensor, the step's number.
        examples: scalar int tensor, the examples of its batch.
        read_version: scalar int tensor, the version when it began to read weights.
        claim: a function of the number that returns `(is_first, version)`.
        staleness_scaling: bool, whether its learning rate is divided by its staleness.
    """

    def __init__(self, number, examples, read_version, claim, staleness_scaling):
        # The number in the place of the replica's index: other random numbers in each step.
        super().__init__(ReplicaCommunicator(1), number, examples)
        self._number, self._read_version, self._claim = number, read_version, claim
        self._scaling = staleness_scaling
        self.version = tf.constant(-1, tf.int64)
        self.learning_rate_factor = None

    def update(self, optimizer, apply, gradients):
        present = [g for g in gradients if g is not None]
        with tf.control_dependencies(tf.nest.flatten(present, expand_composites=True)):
            is_first, version = self._claim(self._number)
        self.version = version
        if self._scaling:
            staleness = tf.maximum(version - tf.cast(self._read_version, tf.int64), 1)
            self.learning_rate_factor = tf.math.reciprocal(tf.cast(staleness, tf.float32))

        def applied():
            # The number of updates is counted by the claim; schedules and bias
            # corrections see that of this step, not one that others have counted on.
            iterations = tf.cast(version, optimizer.iterations.dtype)
            with keras.StatelessScope(state_mapping=[(optimizer.iterations, iterations)]) as scope:
                apply(gradients)
            for variable in optimizer.variables:
                value = scope.get_current_value(variable)
                if variable is not optimizer.iterations and value is not None:
                    variable.value.assign(value)
            return tf.constant(True)

        tf.cond(is_first, applied, lambda: tf.constant(False))


class Asynchrony(NamedTuple):
    """How asynchronous a `fit` is.

    Attributes:
        max_staleness: int, or None for no bound.
        staleness_scaling: bool, whether a step's learning rate is divided by its staleness.
        histogram: dict that counts the steps by staleness, or None.
    """

    max_staleness: int | None = None
    staleness_scaling: bool = False
    histogram: dict | None = None


class StalenessBound:
    """Says when a further step may be handed out.

    Example:

    >>> bound = StalenessBound(1)
    >>> bound.may_hand_out()
    True
    >>> bound.hand_out(0)
    >>> bound.may_hand_out()  # what is applied while step 0 is out: step 1 alone
    True
    >>> bound.hand_out(1)
    >>> bound.may_hand_out()
    False
    >>> bound.finish(1)
    >>> bound.may_hand_out()  # a third one could make step 0's staleness 2
    False

    Args:
        max_staleness: int of at least 0, or None for no bound.
    """

    def __init__(self, max_staleness=None):
        self.max_staleness = max_staleness
        self._handed_out, self._finished = 0, 0
        self._finished_before = {}  # by number of the steps that are out

    def may_hand_out(self):
        """Whether the staleness of all steps stays within the bound with one more."""
        if self.max_staleness is None:
            return True
        before = min(self._finished_before.values(), default=self._finished)
        return self._handed_out - before <= self.max_staleness

    def hand_out(self, number):
        """Notes that the step called `number` is out."""
        self._finished_before[number] = self._finished
        self._handed_out += 1

    def finish(self, number):
        """Notes that it is done, and its update applied."""
        del self._finished_before[number]
        self._finished += 1


# the histogram's buckets: name -> smallest and largest staleness
_BUCKETS = {
    "0": (0, 0),
    "1": (1, 1),
    "2_3": (2, 3),
    "4_7": (4, 7),
    "8_15": (8, 15),
    "16_or_more": (16, math.inf),
}


class StalenessLog:
    """Counts the staleness of steps.

    Args:
        total: dict that counts them, too, beyond this log; or None.

    Example:

    >>> log = StalenessLog()
    >>> for staleness in (0, 2, 3):
    ...     log.add(staleness)
    >>> logs = log.logs(histogram=True)
    >>> logs["staleness_max"], logs["staleness_2_3"]
    (3.0, 2.0)
    """

    def __init__(self, total=None):
        self.counts, self._total = {}, total

    def add(self, staleness):
        """Counts a step."""
        for counts in (self.counts, self._total):
            if counts is not None:
                counts[staleness] = counts.get(staleness, 0) + 1

    def logs(self, histogram=False):
        """Dict of floats: mean, largest, and the number of steps by buckets of staleness."""
        total = sum(self.counts.values())
        mean = sum(value * count for value, count in self.counts.items()) / max(1, total)
        logs = {"staleness_mean": mean, "staleness_max": float(max(self.counts, default=0))}
        for name, (low, high) in _BUCKETS.items() if histogram else ():
            inside = [count for value, count in self.counts.items() if low <= value <= high]
            logs[f"staleness_{name}"] = float(sum(inside))
        return logs
