"""What `tf.distribute.experimental` has: its strategies are tfdist's, all else is handed on."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorflow import distribute as _distribute

    from tfdist.strategies.multi_worker import (
        MultiWorkerMirroredStrategy as MultiWorkerMirroredStrategy,
    )
    from tfdist.strategies.parameter_server import (
        ParameterServerStrategy as ParameterServerStrategy,
    )
    from tfdist.strategies.tpu import TPUStrategy as TPUStrategy

    CollectiveCommunication = _distribute.experimental.CollectiveCommunication
    CollectiveHints = _distribute.experimental.CollectiveHints
    CommunicationImplementation = _distribute.experimental.CommunicationImplementation
    CommunicationOptions = _distribute.experimental.CommunicationOptions
    PreemptionCheckpointHandler = _distribute.experimental.PreemptionCheckpointHandler
    PreemptionWatcher = _distribute.experimental.PreemptionWatcher
    TerminationConfig = _distribute.experimental.TerminationConfig
    ValueContext = _distribute.experimental.ValueContext
    coordinator = _distribute.experimental.coordinator
    partitioners = _distribute.experimental.partitioners
    rpc = _distribute.experimental.rpc

# The same, as they were called before they had left TensorFlow's experiments.
_STRATEGIES = {
    "MultiWorkerMirroredStrategy": "tfdist.strategies.multi_worker",
    "ParameterServerStrategy": "tfdist.strategies.parameter_server",
    "TPUStrategy": "tfdist.strategies.tpu",
}
_OF_TENSORFLOW = (
    *("CollectiveCommunication", "CollectiveHints", "CommunicationImplementation"),
    *("CommunicationOptions", "PreemptionCheckpointHandler", "PreemptionWatcher"),
    *("TerminationConfig", "ValueContext", "coordinator", "partitioners", "rpc"),
)

__all__ = [*_STRATEGIES, *_OF_TENSORFLOW]


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> Any:
        if name in _STRATEGIES:
            value = getattr(importlib.import_module(_STRATEGIES[name]), name)
        elif name in _OF_TENSORFLOW:
            value = getattr(importlib.import_module("tensorflow").distribute.experimental, name)
        elif name == "CentralStorageStrategy":
            raise AttributeError(
                "tfdist has no CentralStorageStrategy, under which Keras 3 cannot train. Use "
                "`tfdist.MirroredStrategy()`, which keeps a copy of the variables on each device "
                "and gives the same numbers; where they do not fit there, "
                "`tfdist.ParameterServerStrategy()`, which keeps them in main memory."
            )
        else:
            raise AttributeError(f"module 'tfdist.experimental' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
