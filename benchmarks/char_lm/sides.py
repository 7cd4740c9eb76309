"""The ways to agree that `convergence.py` compares, by name."""

import tfdist


def _sync(compressor=None):
    return [tfdist.callbacks.SyncSGD(compressor=compressor)]


SIDES = {
    "synchronous": lambda: _sync(),
    "LocalSGD, period 10": lambda: [tfdist.callbacks.LocalSGD(10)],
    "LocalSGD, period 50": lambda: [tfdist.callbacks.LocalSGD(50)],
    "DiLoCo, period 10": lambda: [tfdist.callbacks.DiLoCo(10)],
    "DiLoCo, period 50": lambda: [tfdist.callbacks.DiLoCo(50)],
    "DiLoCo, period 100": lambda: [tfdist.callbacks.DiLoCo(100)],
    "PowerSGD, rank 1": lambda: _sync(tfdist.gradient_compression.PowerSGD(1)),
    "PowerSGD, rank 2": lambda: _sync(tfdist.gradient_compression.PowerSGD(2)),
    "PowerSGD, rank 4": lambda: _sync(tfdist.gradient_compression.PowerSGD(4)),
}


def callbacks(side):
    """New callbacks for a side."""
    return SIDES[side]()
