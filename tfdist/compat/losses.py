"""The loss of a replica, such that the mean over all examples comes out exactly.

Needs: `reduce_weighted_values`, `scale_loss_for_distribution` and
`unscale_loss_for_distribution` of `keras.src.losses.loss`, and
`CompileLoss.call`.
Why: under a strategy Keras divides each replica's mean loss by the number of
replicas: a mean of means, which is not the mean over the examples as soon as
replicas hold different numbers of examples or of unmasked time steps. Inside a
step of `fit` or `evaluate` these functions leave the replica's own mean alone
and let the step weigh it (see `sync/step.py`). In a custom training loop they
are Keras' originals, since such a loop does its own scaling.
"""

from keras import ops
from keras.src.losses import loss as loss_module
from keras.src.trainers import compile_utils

from tfdist.compat import active_step
from tfdist.compat.install import replace


def install():
    replace(loss_module, "reduce_weighted_values", _exact_denominator)
    replace(loss_module, "scale_loss_for_distribution", _leave_unscaled)
    replace(loss_module, "unscale_loss_for_distribution", _of_this_replica)
    replace(compile_utils.CompileLoss, "call", _weigh_head_metrics)


def _keras_step():
    step = active_step.current()
    return step if step is not None and step.weighs_examples else None


def _leave_unscaled(original):
    def scale_loss_for_distribution(value):
        return original(value) if _keras_step() is None else value

    return scale_loss_for_distribution


def _of_this_replica(original):
    def unscale_loss_for_distribution(value):
        step = _keras_step()
        if step is None:
            return original(value)
        if value.shape.rank and step.num_replicas > 1:
            # Losses that are not reduced carry B / b_r (see below); their mean must not.
            value = value * ops.cast(step.share(), value.dtype)
        return step.zero_if_empty(value)

    return unscale_loss_for_distribution


def _exact_denominator(original):
    def reduce_weighted_values(
        values, sample_weight=None, mask=None, reduction="sum_over_batch_size", dtype=None
    ):
        loss = original(values, sample_weight, mask, reduction, dtype)
        step = _keras_step()
        if step is None or step.num_replicas == 1:
            return loss
        values = ops.convert_to_tensor(values, dtype=dtype)
        if reduction in ("sum", "none", None):
            return loss * ops.cast(step.examples_ratio(), loss.dtype)
        denominator = _denominator(values, sample_weight, mask, reduction)
        if denominator is not None:
            loss = loss * ops.cast(step.denominator_ratio(denominator), loss.dtype)
        return loss

    return reduce_weighted_values


def _denominator(values, sample_weight, mask, reduction):
    """What this replica's mean was divided by, where that is not its number of examples.

    None where it is a fixed multiple of the number of examples, the same on all
    replicas: then weighing by examples is exact and nothing need be exchanged.
    """
    if reduction == "mean_with_sample_weight" and (sample_weight is not None or mask is not None):
        shape = values.shape
        weights = None
        if sample_weight is not None:
            weights = ops.convert_to_tensor(sample_weight, dtype=values.dtype)
        if mask is not None:
            mask = ops.cast(mask, values.dtype)
            if weights is None:
                weights = mask
            else:
                mask, weights = loss_module.squeeze_or_expand_to_same_rank(mask, weights)
                weights = weights * mask
        if len(weights.shape) > len(shape):
            _, weights = loss_module.squeeze_or_expand_to_same_rank(values, weights)
        return ops.sum(weights)
    if mask is not None:
        return ops.sum(ops.cast(mask, values.dtype))
    if len(values.shape) > 1 and any(size is None for size in values.shape[1:]):
        # Time steps may differ between replicas' batches.
        return ops.cast(ops.prod(ops.shape(values)), values.dtype)
    return None


class _WeighedByExamples:
    """Passes a head's loss to its metric such that each global batch counts once.

    As in one process, where Keras gives the metric the static batch size, which
    is unknown in a graph: the metric becomes a mean over batches. On one replica,
    too, where a step may be traced for a size that is known.
    """

    def __init__(self, metric, step):
        self._metric = metric
        self._step = step

    def update_state(self, value, sample_weight=None):
        value = ops.cast(value, self._metric.dtype)
        self._metric.update_state(value, sample_weight=self._step.share())


def _weigh_head_metrics(original):
    def call(self, y_true, y_pred, sample_weight=None):
        step = _keras_step()
        if step is None or not self._metrics:
            return original(self, y_true, y_pred, sample_weight)
        metrics = self._metrics
        self._metrics = [_WeighedByExamples(metric, step) for metric in metrics]
        try:
            return original(self, y_true, y_pred, sample_weight)
        finally:
            self._metrics = metrics

    return call
