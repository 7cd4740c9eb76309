"""The optimizer's seam: gradients are reduced in front of `apply`.

Needs: `BaseOptimizer.apply`, `LossScaleOptimizer.apply`, `.scale_loss` of both
(public methods, replaced for every optimizer), `BaseOptimizer._trainable_variables`,
`TFOptimizer._all_reduce_sum_gradients`, `._distribution_strategy` and
`BaseOptimizer._get_current_learning_rate` (a stale step's rate is smaller; a schedule's
cannot be set from outside).
Why: Keras reduces gradients at the end of `apply`, after it has unscaled,
clipped and accumulated them on each replica by itself, so clipping sees a
replica's gradient where it must see the global one. No hook stands in front.
"""

import contextlib
import functools
import threading

import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer
from keras.src.optimizers.loss_scale_optimizer import LossScaleOptimizer

from tfdist.compat import active_step
from tfdist.compat.replacing import replace
from tfdist.compat.strategy import is_tfdist

_applying = threading.local()


def install():
    for optimizer_class in (BaseOptimizer, LossScaleOptimizer):
        replace(
            optimizer_class,
            "apply",
            _reduce_before_apply,
            "in a step, for an optimizer that was made in a scope, and in `fit` of a model that "
            "is pruned by its gradients",
            "reduces the gradients first, and shows them to the pruning; an error where it is not "
            "called on a replica",
        )
        replace(
            optimizer_class,
            "scale_loss",
            _weigh_loss,
            "in a step",
            "weighs the loss by this replica's share of the examples",
        )
    replace(
        TFOptimizer,
        "_all_reduce_sum_gradients",
        _skip_if_reduced,
        "inside of `apply` in a step",
        "leaves the gradients, which are reduced already, as they are",
    )
    replace(
        BaseOptimizer,
        "_get_current_learning_rate",
        _scaled_for_this_step,
        "in a step of `AsyncSGD(staleness_scaling=True)`",
        "divides the rate by the step's staleness",
    )


@contextlib.contextmanager
def reduced_already():
    """Optimizers that are applied inside take their gradients as they are."""
    before = getattr(_applying, "depth", 0)
    _applying.depth = before + 1
    try:
        yield
    finally:
        _applying.depth = before


def applying():
    """True while an optimizer's `apply` runs on this thread."""
    return getattr(_applying, "depth", 0) > 0


def loss_scale(optimizer):
    """Scalar tensor that the loss was multiplied with; None for none."""
    if isinstance(optimizer, LossScaleOptimizer):
        if not optimizer.built:
            return tf.constant(optimizer.initial_scale)
        return tf.convert_to_tensor(optimizer.dynamic_scale.value)
    return getattr(optimizer, "loss_scale_factor", None)


@contextlib.contextmanager
def before_apply(optimizer, function):
    """Outside of steps of tfdist's, `optimizer` applies what `function` makes of the gradients.

    Args:
        optimizer: a Keras optimizer.
        function: function of the list of gradients, that of their variables, and the loss
            scale or None; it returns the list of gradients to apply.
    """
    functions = vars(optimizer).setdefault("_tfdist_before_apply", [])
    functions.append(function)
    try:
        yield
    finally:
        functions.remove(function)


def _shown(optimizer, gradients, variables):
    for function in vars(optimizer).get("_tfdist_before_apply", ()):
        known = list(variables or optimizer._trainable_variables)
        gradients = function(list(gradients), known, loss_scale(optimizer))
    return gradients


def _reduce_before_apply(original):
    def apply(self, grads, trainable_variables=None):
        step = active_step.current()
        # LossScaleOptimizer.apply calls its inner optimizer's: reduce once.
        if step is None or applying():
            if not applying():
                _check_on_a_replica(self)
                grads = _shown(self, grads, trainable_variables)
            return original(self, grads, trainable_variables)
        in_fit = getattr(step, "weighs_examples", True)
        if tf.executing_eagerly() and not in_fit and _only_adds_up(self):
            # As without tfdist: replicas add up gradients of their own, which Keras sums when it
            # updates. In a graph that would be in a condition, where replicas cannot meet.
            return original(self, grads, trainable_variables)
        if step.collects_updates:
            return step.collect_update(self, list(grads), trainable_variables)
        variables = trainable_variables or getattr(self, "_trainable_variables", None)
        if tf.executing_eagerly() and _rescales(self):
            # TensorFlow takes a tensor that is the same object on all replicas for their
            # sum already. Keras reduces what it has changed, which are objects of their own.
            grads = [None if g is None else tf.identity(g) for g in grads]
        grads = step.reduce_gradients(_with_shapes(list(grads), variables), self)
        grads = step.before_update(self, grads, variables)
        grads, updated = step.updated(self, grads, trainable_variables)
        _applying.depth = 1
        try:
            apply = functools.partial(original, self, trainable_variables=updated)
            return step.update(self, apply, grads)
        finally:
            _applying.depth = 0

    return apply


def _only_adds_up(optimizer):
    """Whether gradients are accumulated, and nothing else happens to them before the update."""
    return bool(getattr(optimizer, "gradient_accumulation_steps", None)) and not _rescales(
        optimizer
    )


def _rescales(optimizer):
    """Whether Keras' own `apply` makes other gradients of each that it is given."""
    clips = ("clipnorm", "global_clipnorm", "clipvalue")
    return isinstance(optimizer, LossScaleOptimizer) or any(
        getattr(optimizer, name, None) for name in clips
    )


def _check_on_a_replica(optimizer):
    """Refuses an update that no replica makes: workers would each train a model of their own."""
    strategy = getattr(optimizer, "_distribution_strategy", None)
    active = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
    if not is_tfdist(strategy):
        strategy = active
    if not is_tfdist(strategy) or strategy.is_asynchronous:
        return
    if active is not strategy:
        raise not_on_a_replica(f"`{optimizer.name}.apply`", "outside of the scope", strategy)
    if tf.distribute.in_cross_replica_context():
        raise not_on_a_replica(f"`{optimizer.name}.apply`", "in the scope", strategy)


def not_on_a_replica(what, where, strategy):
    """The error of what needs a replica: `what` was called in or outside of a scope, `where`."""
    return RuntimeError(
        f"{what} was called {where} of a {type(strategy).__name__}, but not on a replica: its "
        "variables are trained only inside of `strategy.run`, where gradients are summed over "
        "replicas. Put the step (the `tf.GradientTape` and `optimizer.apply`) into a function and "
        "call `strategy.run(step, args=(batch,))`, or use `model.fit`."
    )


def _with_shapes(gradients, variables):
    """Gradients whose shapes TensorFlow knows; it loses some, as behind a `Dense` of sequences."""
    return [_with_shape(g, v) for g, v in zip(gradients, variables)] if variables else gradients


def _with_shape(gradient, variable):
    if isinstance(gradient, tf.IndexedSlices):
        shape = tf.constant(tf.TensorShape(variable.shape).as_list())
        return tf.IndexedSlices(gradient.values, gradient.indices, shape)
    if isinstance(gradient, tf.Tensor):
        gradient.set_shape(variable.shape)
    return gradient


def _weigh_loss(original):
    def scale_loss(self, loss):
        step = active_step.current()
        if step is not None:
            loss = step.weigh_loss(loss, self)
        return original(self, loss)

    return scale_loss


def _scaled_for_this_step(original):
    def _get_current_learning_rate(self):
        factor = getattr(active_step.current(), "learning_rate_factor", None)
        if factor is None:
            return original(self)
        rate = tf.convert_to_tensor(original(self))
        return rate * tf.cast(factor, rate.dtype)

    return _get_current_learning_rate


def _skip_if_reduced(original):
    def _all_reduce_sum_gradients(self, grads_and_vars):
        if applying():
            return list(grads_and_vars)
        return original(self, grads_and_vars)

    return _all_reduce_sum_gradients
