"""The optimizer's seam: gradients are reduced in front of `apply`.

Needs: `BaseOptimizer.apply`, `LossScaleOptimizer.apply`, `.scale_loss` of both
(public methods, replaced for every optimizer), `BaseOptimizer._trainable_variables`
`TFOptimizer._all_reduce_sum_gradients` and `BaseOptimizer._get_current_learning_rate`
(a stale step's rate is smaller; a schedule's cannot be set from outside).
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
from tfdist.compat.install import replace

_applying = threading.local()


def install():
    for optimizer_class in (BaseOptimizer, LossScaleOptimizer):
        replace(optimizer_class, "apply", _reduce_before_apply)
        replace(optimizer_class, "scale_loss", _weigh_loss)
    replace(TFOptimizer, "_all_reduce_sum_gradients", _skip_if_reduced)
    replace(BaseOptimizer, "_get_current_learning_rate", _scaled_for_this_step)


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
        return tf.convert_to_tensor(optimizer.dynamic_scale.value)
    return getattr(optimizer, "loss_scale_factor", None)


def _reduce_before_apply(original):
    def apply(self, grads, trainable_variables=None):
        step = active_step.current()
        # LossScaleOptimizer.apply calls its inner optimizer's: reduce once.
        if step is None or applying():
            return original(self, grads, trainable_variables)
        if step.collects_updates:
            return step.collect_update(self, list(grads), trainable_variables)
        variables = trainable_variables or getattr(self, "_trainable_variables", None)
        grads = step.reduce_gradients(_with_shapes(list(grads), variables), self)
        _applying.depth = 1
        try:
            apply = functools.partial(original, self, trainable_variables=trainable_variables)
            return step.update(self, apply, grads)
        finally:
            _applying.depth = 0

    return apply


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
