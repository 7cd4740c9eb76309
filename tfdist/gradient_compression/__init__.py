"""What crosses the wire: compressors of gradients, imported when they are first used."""

import importlib

# public name -> the module that defines it
_NAMES = {
    "Compressor": "tfdist.gradient_compression.compressor",
    "BFloat16": "tfdist.gradient_compression.bfloat16",
    "Float16": "tfdist.gradient_compression.float16",
    "Int8": "tfdist.gradient_compression.int8",
    "OneBit": "tfdist.gradient_compression.one_bit",
    "TopK": "tfdist.gradient_compression.top_k",
    "PowerSGD": "tfdist.gradient_compression.power_sgd",
}

__all__ = [*_NAMES]


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module 'tfdist.gradient_compression' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
