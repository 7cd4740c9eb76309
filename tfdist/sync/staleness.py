"""Asynchronous training: how stale steps may be, and how stale they were.

A worker reads the weights at version v (the number of updates so far), computes a
gradient, and applies it when the version is v': its staleness is v' - v, the number
of other steps that were applied in between.

**Bounded staleness** (stale synchronous parallel, Ho et al., NIPS 2013). Let step i be
handed out when `finished(i)` steps were known to be done, and n steps be handed out
altogether. What can be applied between its reading and its own update are the others
of the n that were not done by then: n - 1 - finished(i). So a further step is handed
out only if that stays within the bound for all steps that are out. No clock is compared
and no parameter server asked: the bound holds whatever the workers' speeds.

**Scaling** (Zhang et al., 1511.05950): the learning rate of a step is divided by
max(1, staleness).
"""

import math
from typing import NamedTuple


class Asynchrony(NamedTuple):
    """How asynchronous a `fit` is.

    Attributes:
        max_staleness: int, or None for no bound.
        staleness_scaling: bool, whether a step's learning rate is divided by its staleness.
        histogram: dict that counts the steps by staleness, or None.
    """

    max_staleness: int | None = None
    staleness_scaling: bool = False
    histogram: dict[int, int] | None = None


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

    def __init__(self, max_staleness: int | None = None) -> None:
        self.max_staleness = max_staleness
        self._handed_out, self._finished = 0, 0
        self._finished_before: dict[int, int] = {}  # by number of the steps that are out

    def may_hand_out(self) -> bool:
        """Whether the staleness of all steps stays within the bound with one more."""
        if self.max_staleness is None:
            return True
        before = min(self._finished_before.values(), default=self._finished)
        return self._handed_out - before <= self.max_staleness

    def hand_out(self, number: int) -> None:
        """Notes that the step called `number` is out."""
        self._finished_before[number] = self._finished
        self._handed_out += 1

    def finish(self, number: int) -> None:
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

    def __init__(self, total: dict[int, int] | None = None) -> None:
        self.counts: dict[int, int] = {}
        self._total = total

    def add(self, staleness: int) -> None:
        """Counts a step."""
        for counts in (self.counts, self._total):
            if counts is not None:
                counts[staleness] = counts.get(staleness, 0) + 1

    def logs(self, histogram: bool = False) -> dict[str, float]:
        """Dict of floats: mean, largest, and the number of steps by buckets of staleness."""
        total = sum(self.counts.values())
        mean = sum(value * count for value, count in self.counts.items()) / max(1, total)
        logs = {"staleness_mean": mean, "staleness_max": float(max(self.counts, default=0))}
        for name, (low, high) in _BUCKETS.items() if histogram else ():
            inside = [count for value, count in self.counts.items() if low <= value <= high]
            logs[f"staleness_{name}"] = float(sum(inside))
        return logs
