"""The loss of a replica, such that the mean over all examples comes out exactly.

Needs: `reduce_weighted_values`, `scale_loss_for_distribution` and
`unscale_loss_for_distribution` of `keras.src.losses.loss`, and
`CompileLoss.call`, `._flat_losses`, `._metrics` and that an unbuilt one calls `build`.
Why: under a strategy Keras divides each replica's mean loss by the number of
replicas: a mean of means, which is not the mean over the examples as soon as
replicas hold different numbers of examples or of unmasked time steps. Inside a
step of `fit` or `evaluate` these functions leave the replica's own mean alone
and let the step weigh it (see `sync/step.py`). In a custom training loop they
are Keras' originals, since such a loop does its own scaling.

Limit: the mean that is logged of losses that are not reduced (`reduction="none"`) is exact
on equal batches only where XLA compiles the step on several replicas.
"""

from keras import ops
from keras.src.losses import loss as loss_module
from keras.src.trainers import compile_utils

from tfdist.compat import active_step
from tfdist.compat.replacing import note, replace

_UNREDUCED = ("sum", "none", None)
_IN_A_STEP = "in a step of `fit` or `evaluate`"

note(
    __name__,
    compile_utils.CompileLoss,
    "on a model's compiled loss, during a call of it",
    **dict.fromkeys(
        ("build", "_flat_losses", "_metrics"),
        (
            _IN_A_STEP,
            "multiplies each loss that is a sum, or not reduced, by B / b_r, and weighs its metric",
        ),
    ),
)


def install():
    replace(
        loss_module,
        "reduce_weighted_values",
        _exact_denominator,
        f"{_IN_A_STEP} on several replicas",
        "makes a mean over weights, a mask or time steps that of the global batch",
    )
    replace(
        loss_module,
        "scale_loss_for_distribution",
        _leave_unscaled,
        _IN_A_STEP,
        "returns the loss as it is: the step weighs it by b_r / B",
    )
    replace(
        loss_module,
        "unscale_loss_for_distribution",
        _of_this_replica,
        _IN_A_STEP,
        "returns the loss as it is; 0 for a replica without examples",
    )
    replace(
        compile_utils.CompileLoss,
        "call",
        _weigh_heads,
        _IN_A_STEP,
        "replaces the losses that it calls and their metrics during the call",
    )


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
            return _losses_of_all(value, step)
        return step.zero_if_empty(value)

    return unscale_loss_for_distribution


def _losses_of_all(value, step):
    """What a metric gets of losses that are not reduced.

    It weighs each of them by the number of examples, which of a whole batch are B as often
    as it has elements. So here are as many as there would be, of which each is the mean.
    """
    if step.collects_updates:  # XLA knows no shapes that depend on numbers
        return value * ops.cast(step.share(), value.dtype)
    size = ops.cast(ops.size(value), "float64") * step.examples_ratio()
    mean = ops.mean(value) * ops.cast(step.share(), value.dtype)  # they carry B / b_r
    return ops.broadcast_to(step.zero_if_empty(mean), (ops.cast(ops.round(size), "int32"),))


def _exact_denominator(original):
    def reduce_weighted_values(
        values, sample_weight=None, mask=None, reduction="sum_over_batch_size", dtype=None
    ):
        loss = original(values, sample_weight, mask, reduction, dtype)
        step = _keras_step()
        if step is None or step.num_replicas == 1:
            return loss
        if reduction in _UNREDUCED:
            step.note_unreduced_loss(loss)
            return loss
        values = ops.convert_to_tensor(values, dtype=dtype)
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


class _Head:
    """A loss that `compile` was given, as a loss of this replica's examples.

    The step weighs the loss of each replica by b_r / B, as is right for a mean. What is no
    mean gets the factor B / b_r here: sums and losses that are not reduced, where the loss
    object itself is the head. One that the user's own function calls is left alone, since
    only that function knows what becomes of it.

    Args:
        loss: the loss object.
        step: the step.
        joins_unreduced: whether another head is not reduced. The gradient of their sum is
            that of all its elements, so that this one counts once for each example.
    """

    def __init__(self, loss, step, joins_unreduced):
        self._loss, self._step = loss, step
        self.is_unreduced = _is_unreduced(loss)
        self._joins = joins_unreduced and not self.is_unreduced

    def __call__(self, y_true, y_pred, sample_weight=None):
        value = self._loss(y_true, y_pred, sample_weight)
        if getattr(self._loss, "reduction", "mean") in _UNREDUCED:
            value = value * ops.cast(self._step.examples_ratio(), value.dtype)
        elif not _is_of_keras(self._loss):
            self._step.note_loss(value)
        if self._joins:
            value = value * ops.cast(self._step.examples_ratio(), value.dtype)
        self._step.note_right_loss(value)
        return value

    def alone(self, value):
        """`value` without what it got for being added to other heads."""
        return value * ops.cast(self._step.share(), value.dtype) if self._joins else value


def _is_of_keras(loss):
    module = getattr(loss, "fn", type(loss)).__module__  # None for a function of `exec`
    return (module or "").startswith("keras.")


def _is_unreduced(loss):
    return getattr(loss, "reduction", "mean") in ("none", None)


class _WeighedByExamples:
    """Passes a head's loss to its metric such that each global batch counts once.

    As in one process, where Keras gives the metric the static batch size, which
    is unknown in a graph: the metric becomes a mean over batches. On one replica,
    too, where a step may be traced for a size that is known.
    """

    def __init__(self, metric, step, head):
        self._metric, self._step, self._head = metric, step, head

    def update_state(self, value, sample_weight=None):
        value = ops.cast(self._head.alone(value), self._metric.dtype)
        self._metric.update_state(value, sample_weight=self._step.share())


class _Dressed:
    """The heads of a `CompileLoss` and their metrics, as they are in one call of it."""

    def __init__(self, compiled, step):
        self._compiled, self._step = compiled, step
        self._before = None

    def __enter__(self):
        if self._compiled.built:
            self._dress()
        else:  # it builds itself in the call
            vars(self._compiled)["build"] = self._build

    def _build(self, y_true, y_pred):
        type(self._compiled).build(self._compiled, y_true, y_pred)
        self._dress()

    def _dress(self):
        compiled, step = self._compiled, self._step
        self._before = compiled._flat_losses, compiled._metrics
        unreduced = any(_is_unreduced(one.loss) for one in compiled._flat_losses)
        heads = [_Head(one.loss, step, unreduced) for one in compiled._flat_losses]
        compiled._flat_losses = [
            one._replace(loss=head) for one, head in zip(compiled._flat_losses, heads)
        ]
        compiled._metrics = [
            _WeighedByExamples(metric, step, head) for metric, head in zip(compiled._metrics, heads)
        ]

    def __exit__(self, *_):
        vars(self._compiled).pop("build", None)
        if self._before is not None:
            self._compiled._flat_losses, self._compiled._metrics = self._before


def _weigh_heads(original):
    def call(self, y_true, y_pred, sample_weight=None):
        step = _keras_step()
        if step is None:
            return original(self, y_true, y_pred, sample_weight)
        with _Dressed(self, step):
            return original(self, y_true, y_pred, sample_weight)

    return call
