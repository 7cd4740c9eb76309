"""Memory for what an all-reduce returns, and for what comes in meanwhile."""

import weakref

import numpy as np

_ALIGNMENT = 64  # bytes; TensorFlow takes aligned arrays over without a copy


class Buffers:
    """Memory that is used again once nothing refers to it: fresh pages cost as much as the wire."""

    _KEPT = 3  # for each size

    def __init__(self):
        self._free = {}  # by size: lists of memory that nothing refers to

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
        """An uninitialized array that nothing else uses."""
        nbytes = size * dtype.itemsize
        free = self._free.setdefault(nbytes, [])
        memory = free.pop() if free else _aligned(nbytes)
        # An array of a buffer, not of an array: NumPy then makes it, and nothing further
        # down, the base of all of its views. So it lives for as long as one of them does,
        # in TensorFlow's hands, too.
        lent = np.frombuffer(memory, dtype)
        weakref.finalize(lent, _give_back, free, memory).atexit = False
        return lent


def _aligned(nbytes):
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memoryview(memory[begin : begin + nbytes])


def _give_back(free, memory):
    """Called on whichever thread drops the last reference."""
    if len(free) < Buffers._KEPT:
        free.append(memory)
