"""Labels of channels, which ones are one, and which must stay.

A variable has a label for each place along each of its axes. Following an operation means to say
which labels are the same channel (a bias is added to the output of a kernel) and which cannot go
alone (a mean is taken over all of them).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Labels:
    """Labels are whole numbers; `same` and `keep` say what is known of them.

    Example:

    >>> labels = Labels()
    >>> kernel, bias = labels.new(3), labels.new(3)
    >>> labels.same(kernel, bias)
    >>> labels.keep(kernel[2], "an output of the model")
    >>> channels, reasons = labels.resolved()
    >>> channels[kernel] == channels[bias]
    array([ True,  True,  True])
    >>> reasons[channels[bias[2]]]
    'an output of the model'
    """

    def __init__(self) -> None:
        self._count = 0
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._kept: list[tuple[np.ndarray, str]] = []

    def new(self, count: int) -> np.ndarray:
        """int64 `(count,)`: labels that were not there before."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def same(self, one: np.ndarray, other: np.ndarray) -> None:
        """Labels at the same place of both arrays, broadcast, are one channel."""
        one, other = np.broadcast_arrays(one, other)
        self._pairs.append((one.reshape(-1), other.reshape(-1)))

    def keep(self, labels: np.ndarray, reason: str) -> None:
        """These can never go, and why."""
        self._kept.append((np.reshape(labels, -1), reason))

    def resolved(self) -> tuple[np.ndarray, dict[int, str]]:
        """The channel of each label, `(labels,)`, and the reasons of those that must stay."""
        ones, others = (
            np.concatenate([np.zeros(0, np.int64), *(pair[i] for pair in self._pairs)])
            for i in range(2)
        )
        edges = coo_array((np.ones(len(ones)), (ones, others)), shape=(self._count,) * 2)
        _, channels = connected_components(edges, directed=False)
        reasons: dict[int, str] = {}
        for labels, reason in self._kept:
            for channel in np.unique(channels[labels]):
                reasons.setdefault(int(channel), reason)
        return channels, reasons


def shortened(labels: np.ndarray) -> np.ndarray:
    """`labels` with one place in the place of an axis along which they do not differ."""
    for axis, size in enumerate(labels.shape):
        if size > 1:
            first = labels.take([0], axis)
            if labels.strides[axis] == 0 or np.all(labels == first):
                labels = first
    return labels


def axes_of(labels: np.ndarray) -> tuple[int, ...]:
    """The axes along which labels differ."""
    return tuple(i for i, size in enumerate(labels.shape) if size > 1)
