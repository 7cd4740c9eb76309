"""A metric that is given one number for a whole batch, on several replicas.

Needs: `keras.metrics.Mean.update_state` (public, replaced).
Why: losses that a model computes itself (a `train_step` with a tracker for each part of the
loss, Keras' own `Distiller`) reach their metrics as the mean of a batch, without a weight, and
Keras counts each batch once. On replicas each part of the batch would count once, whatever its
size. Here the parts count b_r / B, so that each global batch counts once, and its value is the
mean over its examples.

Limits: a sum over the batch's examples counts as their mean, as it does in the loss of a step
(`sync/step.py`). Inside of a `tf.cond` or a loop, where a pipeline for each worker leaves B
unknown, parts count once each, since nothing can be asked of other replicas there.
"""

import keras
from keras import ops

from tfdist.compat import active_step
from tfdist.compat.replacing import replace


def install():
    replace(
        keras.metrics.Mean,
        "update_state",
        _weighed,
        "in a step of `fit` or `evaluate` on several replicas, for a scalar without a weight",
        "weighs it by b_r / B, so that a global batch counts once",
    )


def _weighed(original):
    def update_state(self, values, sample_weight=None):
        step = active_step.current()
        if (
            sample_weight is not None
            or step is None
            or not step.weighs_examples
            or step.num_replicas == 1
            or len(ops.shape(values)) > 0
            or not step.knows_share()
        ):
            return original(self, values, sample_weight)
        values = step.zero_if_empty(ops.convert_to_tensor(values, dtype=self.dtype))
        return original(self, values, ops.cast(step.share(), self.dtype))

    return update_state
