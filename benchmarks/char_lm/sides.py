"""The ways to agree that `convergence.py` compares, by name."""

import keras

import tfdist


def _sync(compressor=None, warmup_steps=0):
    return [tfdist.callbacks.SyncSGD(compressor=compressor, warmup_steps=warmup_steps)]


def _diloco(period, momentum):
    outer = keras.optimizers.SGD(0.7, momentum=momentum, nesterov=True)
    return [tfdist.callbacks.DiLoCo(period, outer_optimizer=outer)]


SIDES = {
    "synchronous": lambda: _sync(),
    "LocalSGD, period 10": lambda: [tfdist.callbacks.LocalSGD(10)],
    "LocalSGD, period 50": lambda: [tfdist.callbacks.LocalSGD(50)],
    "DiLoCo, period 10": lambda: [tfdist.callbacks.DiLoCo(10)],
    "DiLoCo, period 50": lambda: [tfdist.callbacks.DiLoCo(50)],
    "DiLoCo, period 50, outer momentum 0.7": lambda: _diloco(50, 0.7),
    "DiLoCo, period 100": lambda: [tfdist.callbacks.DiLoCo(100)],
    "PowerSGD, rank 1": lambda: _sync(tfdist.gradient_compression.PowerSGD(1)),
    "PowerSGD, rank 2": lambda: _sync(tfdist.gradient_compression.PowerSGD(2)),
    "PowerSGD, rank 4": lambda: _sync(tfdist.gradient_compression.PowerSGD(4)),
    "PowerSGD, rank 4, warm-up 300": lambda: _sync(tfdist.gradient_compression.PowerSGD(4), 300),
}


def callbacks(side):
    """New callbacks for a side."""
    return SIDES[side]()
