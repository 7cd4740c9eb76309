"""Distributed training for Keras 3 on TensorFlow.

`import tfdist` alone loads neither TensorFlow nor Keras: each public name is
imported when it is first used (PEP 562), so that `tfdist run --help` is quick. What else
`tf.distribute` has stands here, too, as it is: a program changes one word.
"""

import importlib

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


def __getattr__(name):
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


def __dir__():
    return sorted([*__all__, *_OF_TENSORFLOW])
