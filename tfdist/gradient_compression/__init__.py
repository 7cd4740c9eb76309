"""What crosses the wire: compressors of gradients, imported when they are first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdist.gradient_compression.bfloat16 import BFloat16 as BFloat16
    from tfdist.gradient_compression.compressor import Compressor as Compressor
    from tfdist.gradient_compression.float16 import Float16 as Float16
    from tfdist.gradient_compression.int8 import Int8 as Int8
    from tfdist.gradient_compression.one_bit import OneBit as OneBit
    from tfdist.gradient_compression.power_sgd import PowerSGD as PowerSGD
    from tfdist.gradient_compression.top_k import TopK as TopK

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


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"module 'tfdist.gradient_compression' has no attribute {name!r}")
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
