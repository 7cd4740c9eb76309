"""A model under a tfdist strategy is built from the shapes of its data.

Needs: `TensorFlowTrainer._maybe_symbolic_build`, `._symbolic_build`, and what that asks for:
`._flatten_layers`, `._compute_loss`, `._post_build`, `Model._compile_loss`,
`._compile_metrics`, `TFEpochIterator._distributed_dataset`, and `BaseOptimizer.build`.
Why: Keras' symbolic build reduces a whole input batch over the network, takes ragged and
sparse tensors for dense ones (without a strategy Keras builds a model where its step is
traced), and builds the optimizer for all variables, where a strategy may want others.
"""

import contextlib
import functools

import keras
import tensorflow as tf
from keras.src import tree
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer
from keras.src.optimizers.base_optimizer import BaseOptimizer

from tfdist.compat import epoch_iterator, hooks, inputs
from tfdist.compat.replacing import note, replace
from tfdist.compat.trainer import strategy_of

_NOT_DENSE = (tf.RaggedTensor, tf.RaggedTensorSpec, tf.SparseTensor, tf.SparseTensorSpec)

note(
    __name__,
    BaseOptimizer,
    "on the optimizer of a model of a tfdist strategy, while the model is built",
    build=("the optimizer is built", "lets the strategy say for which variables"),
)


def install():
    replace(
        TensorFlowTrainer,
        "_maybe_symbolic_build",
        _build_without_data,
        "a model of a tfdist strategy; a training that `callbacks.Checkpoint` resumes",
        "builds it from shapes alone, without reading data",
    )


def _build_without_data(original):
    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        strategy = strategy_of(self)
        wanted = epoch_iterator.hand_over(self, iterator)
        if strategy is None:
            if not wanted:
                return original(self, iterator=iterator, data_batch=data_batch)
            strategy = self.distribute_strategy
        if iterator is not None:
            # Shapes and dtypes are all that a symbolic build looks at; Keras
            # takes a batch out of the data for them, which a generator misses.
            data_batch = inputs.replica_element_spec(iterator._distributed_dataset)
            data_batch = getattr(data_batch, "data", data_batch)
            if any(spec.shape.rank is None for spec in tree.flatten(data_batch)):
                data_batch = _first_batch(strategy, iterator)
        with strategy.scope():
            try:
                _build(strategy, self, data_batch)
            except Exception:
                # A train step of the user's own need not call the model on `x` (a
                # GAN): what it uses is built when the step is traced, as it is
                # without a strategy.
                usual = type(self).train_step is TensorFlowTrainer.train_step
                if usual and strategy_of(self) is not None:
                    raise

    return _maybe_symbolic_build


def _build(strategy, model, batch):
    """Builds `model` and what it was compiled with, for a batch or its `tf.TypeSpec`s."""
    if not any(isinstance(leaf, _NOT_DENSE) for leaf in tree.flatten(batch)):
        with _building_optimizer(strategy, model):
            model._symbolic_build(data_batch=batch)
        return
    parts = (model._compile_metrics, model._compile_loss, *model._flatten_layers())
    if not all(part is None or part.built for part in parts):
        # Keras' symbols know neither ragged nor sparse tensors; TensorFlow's do.
        tf.function(functools.partial(_use, model), autograph=False).get_concrete_function(batch)
    strategy.build_optimizer(model)
    model._post_build()


@contextlib.contextmanager
def _building_optimizer(strategy, model):
    """Inside, what builds the model's optimizer leaves that to the strategy."""
    optimizer = model.optimizer
    if optimizer is None or optimizer.built:
        yield
        return

    def build(variables):
        del vars(optimizer)["build"]
        strategy.build_optimizer(model)

    vars(optimizer)["build"] = build
    try:
        yield
    finally:
        vars(optimizer).pop("build", None)


def _use(model, batch):
    """Calls what has variables to make; the values that it computes are dropped."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    with keras.StatelessScope(), keras.SymbolicScope():
        y_pred = model(x, training=False)
        if model._compile_metrics is not None and not model._compile_metrics.built:
            model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        if model._compile_loss is not None and not model._compile_loss.built:
            model._compute_loss(x, y, y_pred, sample_weight, training=False)


def _first_batch(strategy, epoch_iterator):
    for _, _, batches in epoch_iterator:
        try:
            batch = next(batches)
        except StopIteration:
            raise hooks.registered().empty_dataset() from None
        batch = tf.nest.map_structure(
            lambda value: strategy.experimental_local_results(value)[0], batch
        )
        return getattr(batch, "data", batch)
