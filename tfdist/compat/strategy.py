"""The engine under a `tf.distribute` strategy, as tfdist needs it.

Needs, of `Strategy.extended`: `_use_merge_call`, `_create_variable`,
`_get_variable_creator_initial_value`, `_replica_ctx_all_reduce`,
`_cross_device_ops`, `_get_cross_device_ops`, `_num_workers`, `_id_in_cluster`;
`Variable._distribute_strategy`; `Strategy._collective_key_base`; and
`CollectiveAllReduceExtended._initialize_local_devices`.
Why:
- Without merge calls each replica updates its own copies of the variables from
  the reduced gradient. Merge calls cannot be made inside a condition, which is
  where Keras accumulates gradients and skips steps for loss scaling.
- TensorFlow broadcasts each variable's first value over the network when it is
  created; workers whose models differ then wait for each other for ever.
  tfdist compares all variables first and sends them in one message.
- `CollectiveAllReduce._launchers` with their `_all_gather`, and
  `ReplicaContext._replica_id`: the public all-gather cannot stand in a condition.
- Strategies of one process number their collectives alike, and the second one's
  first collective is taken for a retry of the first one's: it fails.
"""

import contextlib
import itertools

import tensorflow as tf
from tensorflow.python.distribute import cross_device_ops, distribute_lib
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended
from tensorflow.python.distribute.mirrored_strategy import MirroredExtended

from tfdist.compat import gpu_dtypes
from tfdist.compat.replacing import note

_OF_OURS = "on the `extended` of a tfdist strategy"

note(
    __name__,
    MirroredExtended,
    _OF_OURS,
    _use_merge_call=("always", "is False: each replica updates its own copies"),
    _create_variable=("a variable is made", "tells the strategy of it"),
    _get_variable_creator_initial_value=(
        "a variable is made while a step is traced",
        "initializes each copy by its initializer",
    ),
    _replica_ctx_all_reduce=(
        "always",
        "tells the strategy of the collective; sums over connections of tfdist's own",
    ),
    _get_cross_device_ops=("the user has passed `cross_device_ops`", "returns those"),
)
note(
    __name__,
    CollectiveAllReduceExtended,
    "while `tfdist.MultiWorkerMirroredStrategy` is made for several logical CPUs",
    _initialize_local_devices=("always", "puts a replica on each logical CPU"),
)
note(
    __name__,
    tf.distribute.Strategy,
    "on a tfdist strategy",
    _collective_key_base=("always", "numbers its collectives apart from those of others"),
)

# One strategy may need a few keys: one for each set of devices that it reduces over.
# Keys of multi-worker strategies must be equal on all workers, so strategies that
# a worker makes for itself are counted apart. TensorFlow's own begin at 0.
_local_group_keys = itertools.count(1_000_000, 1000)
_group_keys_of_all_workers = itertools.count(1_000_000_000, 1000)


def is_tfdist(strategy):
    """Whether `strategy`, any object, is one of tfdist's, that train by tfdist's steps."""
    return getattr(strategy, "is_tfdist", False)


def is_asynchronous(strategy):
    """Whether `strategy`, any object, is one of tfdist's whose replicas step by themselves."""
    return is_tfdist(strategy) and strategy.is_asynchronous


def number_collectives_apart(strategy, all_workers=False):
    """Gives `strategy`, whose constructor has yet to run, collective keys of its own."""
    keys = _group_keys_of_all_workers if all_workers else _local_group_keys
    strategy._collective_key_base = next(keys)


def adopt(strategy, on_new_variable, on_collective, sum_over_workers=None):
    """Changes how the engine of `strategy` creates variables and updates them.

    Args:
        strategy: a `tf.distribute` mirrored strategy.
        on_new_variable: called with each new distributed variable.
        on_collective: called in a replica context before each collective.
        sum_over_workers: sums a list of values over all replicas, each of which is
            the only one of its worker, in place of TensorFlow's collectives; or None.
    """
    extended = strategy.extended
    create_variable = extended._create_variable
    all_reduce = extended._replica_ctx_all_reduce
    own_collectives = not isinstance(
        getattr(extended, "_cross_device_ops", None), cross_device_ops.CollectiveAllReduce
    )

    def _create_variable(next_creator, **kwargs):
        variable = create_variable(next_creator, **kwargs)
        on_new_variable(variable)
        return variable

    def _initial_value(replica_id, device, primary_var, **kwargs):
        if not tf.executing_eagerly():
            # Made while a step is traced: TensorFlow lifts initial values out of
            # the trace, but not the reading of another variable. Keras'
            # initializers give the same values each time they are called.
            return kwargs["initial_value"]
        return MirroredExtended._get_variable_creator_initial_value(
            extended, replica_id=replica_id, device=device, primary_var=primary_var, **kwargs
        )

    def _replica_ctx_all_reduce(reduce_op, value, options=None):
        if strategy.num_replicas_in_sync == 1:
            return tf.nest.map_structure(tf.identity, value)  # XLA has no collectives here
        on_collective()
        if sum_over_workers is not None:
            sums = sum_over_workers(tf.nest.flatten(value))
            if reduce_op == tf.distribute.ReduceOp.MEAN:
                sums = [total / worker_count(strategy) for total in sums]
            return tf.nest.pack_sequence_as(value, sums)
        if own_collectives:  # the user's `cross_device_ops`, or CPU and GPU mixed
            return distribute_lib.StrategyExtendedV2._replica_ctx_all_reduce(
                extended, reduce_op, value, options
            )
        return all_reduce(reduce_op, value, options)

    def _get_cross_device_ops(value):
        # TensorFlow, without merge calls, would put its own collectives in their place.
        if any(part.dtype == tf.int32 for part in getattr(value, "values", (value,))):
            return cross_device_ops.ReductionToOneDevice()
        return extended._cross_device_ops

    if gpu_dtypes.is_on_gpus(strategy):
        gpu_dtypes.widen(strategy)
    if own_collectives:
        extended._get_cross_device_ops = _get_cross_device_ops
    extended._use_merge_call = lambda: False
    extended._create_variable = _create_variable
    extended._get_variable_creator_initial_value = _initial_value
    extended._replica_ctx_all_reduce = _replica_ctx_all_reduce


def all_gather(strategy, value, options):
    """Stacks `value`, of one shape on all replicas, by TensorFlow's collectives.

    `tf.distribute.ReplicaContext.all_gather` asks for shapes first and leaves the
    replica context, which a condition does not allow.

    Returns:
        A tensor of shape `(replicas, *shape)`; None where the strategy has no such
        collectives (one of the user's `cross_device_ops`), and outside of a graph, where
        replicas of one process run one after the other and would wait for ever.
    """
    ops = getattr(strategy.extended, "_cross_device_ops", None)
    if not isinstance(ops, cross_device_ops.CollectiveAllReduce) or tf.executing_eagerly():
        return None
    launcher = ops._launchers[tf.distribute.get_replica_context()._replica_id]
    return launcher._all_gather(value[tf.newaxis], options)


def local_device_count():
    """How many replicas this worker will hold, and on what; starts nothing.

    Returns:
        A tuple `(count, device_type)`, such as `(2, "GPU")`.
    """
    visible = tf.config.get_visible_devices("GPU") or tf.config.get_visible_devices("CPU")
    parts = [tf.config.get_logical_device_configuration(device) or [None] for device in visible]
    return sum(map(len, parts)), visible[0].device_type


@contextlib.contextmanager
def all_logical_cpus():
    """Multi-worker strategies made here put a replica on each logical CPU, not on the first only.

    As `MirroredStrategy` can; TensorFlow's multi-worker strategy counts GPUs alone.
    """
    original = CollectiveAllReduceExtended._initialize_local_devices

    def _initialize_local_devices(self, cluster_resolver, worker_device):
        devices, device_type = original(self, cluster_resolver, worker_device)
        if device_type == "CPU":
            count = local_device_count()[0]
            devices = tuple(f"{worker_device}/device:CPU:{i}" for i in range(count))
        return devices, device_type

    CollectiveAllReduceExtended._initialize_local_devices = _initialize_local_devices
    try:
        yield
    finally:
        CollectiveAllReduceExtended._initialize_local_devices = original


def worker_count(strategy):
    """How many processes the strategy spans."""
    return getattr(strategy.extended, "_num_workers", 1) or 1


def worker_index(strategy):
    """The index of this process among them."""
    return getattr(strategy.extended, "_id_in_cluster", 0) or 0


def local_components(variable):
    """The `tf.Variable`s that a distributed variable has on this worker."""
    return getattr(variable, "values", (variable,))


def is_sync_on_read(value):
    """Whether `value` is a variable that replicas keep apart until it is read."""
    return (
        isinstance(value, tf.distribute.DistributedValues)
        and getattr(value, "synchronization", None) == tf.VariableSynchronization.ON_READ
    )


def belongs_to(variable, strategy):
    """Whether a Keras variable was created under the scope of `strategy`."""
    return getattr(variable.value, "_distribute_strategy", None) is strategy
