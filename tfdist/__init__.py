"""Distributed training for Keras 3 on TensorFlow.

`import tfdist` alone loads neither TensorFlow nor Keras: each public name is
imported when it is first used (PEP 562), so that `tfdist run --help` is quick. What else
`tf.distribute` has stands here, too, as it is: a program changes one word.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorflow import distribute as _distribute

    from tfdist import callbacks as callbacks
    from tfdist import checkpointing as checkpointing
    from tfdist import cli as cli
    from tfdist import cluster as cluster
    from tfdist import compat as compat
    from tfdist import data as data
    from tfdist import evaluation as evaluation
    from tfdist import experimental as experimental
    from tfdist import gradient_compression as gradient_compression
    from tfdist import metrics as metrics
    from tfdist import model_compression as model_compression
    from tfdist import strategies as strategies
    from tfdist import sync as sync
    from tfdist import tuning as tuning
    from tfdist.cluster.function_runner import run as run
    from tfdist.cluster_info import barrier as barrier
    from tfdist.cluster_info import is_chief as is_chief
    from tfdist.cluster_info import rank as rank
    from tfdist.cluster_info import world_size as world_size
    from tfdist.evaluation.evaluate import evaluate as evaluate
    from tfdist.strategies.auto import auto_strategy as auto_strategy
    from tfdist.strategies.mirrored import MirroredStrategy as MirroredStrategy
    from tfdist.strategies.multi_worker import (
        MultiWorkerMirroredStrategy as MultiWorkerMirroredStrategy,
    )
    from tfdist.strategies.parameter_server import (
        ParameterServerStrategy as ParameterServerStrategy,
    )
    from tfdist.strategies.tpu import TPUStrategy as TPUStrategy

    CrossDeviceOps = _distribute.CrossDeviceOps
    DistributedDataset = _distribute.DistributedDataset
    DistributedIterator = _distribute.DistributedIterator
    DistributedValues = _distribute.DistributedValues
    HierarchicalCopyAllReduce = _distribute.HierarchicalCopyAllReduce
    InputContext = _distribute.InputContext
    InputOptions = _distribute.InputOptions
    InputReplicationMode = _distribute.InputReplicationMode
    NcclAllReduce = _distribute.NcclAllReduce
    OneDeviceStrategy = _distribute.OneDeviceStrategy
    ReduceOp = _distribute.ReduceOp
    ReductionToOneDevice = _distribute.ReductionToOneDevice
    ReplicaContext = _distribute.ReplicaContext
    RunOptions = _distribute.RunOptions
    Server = _distribute.Server
    Strategy = _distribute.Strategy
    StrategyExtended = _distribute.StrategyExtended
    cluster_resolver = _distribute.cluster_resolver
    coordinator = _distribute.coordinator
    experimental_set_strategy = _distribute.experimental_set_strategy
    get_replica_context = _distribute.get_replica_context
    get_strategy = _distribute.get_strategy
    has_strategy = _distribute.has_strategy
    in_cross_replica_context = _distribute.in_cross_replica_context

__version__ = "0.1.0"

# public name -> the module that defines it
_NAMES = {
    "MirroredStrategy": "tfdist.strategies.mirrored",
    "MultiWorkerMirroredStrategy": "tfdist.strategies.multi_worker",
    "ParameterServerStrategy": "tfdist.strategies.parameter_server",
    "TPUStrategy": "tfdist.strategies.tpu",
    "auto_strategy": "tfdist.strategies.auto",
    "rank": "tfdist.cluster_info",
    "world_size": "tfdist.cluster_info",
    "is_chief": "tfdist.cluster_info",
    "barrier": "tfdist.cluster_info",
    "run": "tfdist.cluster.function_runner",
    "evaluate": "tfdist.evaluation.evaluate",
}
_MODULES = (
    "compat",
    "gradient_compression",
    "sync",
    "strategies",
    "data",
    "checkpointing",
    "callbacks",
    "model_compression",
    "metrics",
    "evaluation",
    "tuning",
    "cluster",
    "cli",
    "experimental",
)
# What `tf.distribute` has beside strategies that are tfdist's own.
_OF_TENSORFLOW = (
    *("CrossDeviceOps", "DistributedDataset", "DistributedIterator", "DistributedValues"),
    *("HierarchicalCopyAllReduce", "InputContext", "InputOptions", "InputReplicationMode"),
    *("NcclAllReduce", "OneDeviceStrategy", "ReduceOp", "ReductionToOneDevice"),
    *("ReplicaContext", "RunOptions", "Server", "Strategy", "StrategyExtended"),
    *("cluster_resolver", "coordinator", "experimental_set_strategy", "get_replica_context"),
    *("get_strategy", "has_strategy", "in_cross_replica_context"),
)

__all__ = ["__version__", *_NAMES, *_MODULES]


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> Any:
        if name in _NAMES:
            value = getattr(importlib.import_module(_NAMES[name]), name)
        elif name in _MODULES:
            value = importlib.import_module(f"tfdist.{name}")
        elif name in _OF_TENSORFLOW:
            value = getattr(importlib.import_module("tensorflow").distribute, name)
        elif name == "CentralStorageStrategy":
            value = importlib.import_module("tfdist.experimental").CentralStorageStrategy
        else:
            raise AttributeError(f"module 'tfdist' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_OF_TENSORFLOW])
