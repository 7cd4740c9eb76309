"""Memory for what an all-reduce returns, and for what comes in meanwhile."""

import sys

import numpy as np

_ALIGNMENT = 64  # bytes; TensorFlow takes aligned arrays over without a copy


class Buffers:
    """Memory that is used again once nobody refers to it: fresh pages cost as much as the wire."""

    _KEPT = 3  # for each size

    def __init__(self):
        self._kept = {}

    def flatten(self, arrays):
        """Copies arrays of one dtype into one; returns it, and views of it like `arrays`."""
        dtype = arrays[0].dtype
        step = max(1, _ALIGNMENT // dtype.itemsize)
        begins = [0]
        for array in arrays:
            begins.append(begins[-1] + -(-array.size // step) * step)
        flat = self.take(dtype, begins[-1])
        parts = []
        for begin, end, array in zip(begins, begins[1:], arrays):
            part = flat[begin : begin + array.size]
            part[...] = array.reshape(-1)
            flat[begin + array.size : end] = 0
            parts.append(part.reshape(array.shape))
        return flat, parts

    def take(self, dtype, size):
        """An uninitialized array that is nobody's."""
        nbytes = size * dtype.itemsize
        kept = self._kept.setdefault(nbytes, [])
        for memory in kept:
            # References: the list, `memory`, the argument. Views add one each.
            if sys.getrefcount(memory) <= 3:
                return _aligned(memory, dtype, nbytes)
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        if len(kept) < self._KEPT:
            kept.append(memory)
        return _aligned(memory, dtype, nbytes)


def _aligned(memory, dtype, nbytes):
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + nbytes].view(dtype)
