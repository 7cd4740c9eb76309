"""The loss of a custom train step, which only its tape knows, and where its step runs.

Needs: `tf.GradientTape.gradient` (public, replaced).
Why: how such a step averages its loss decides whether its gradient is right on several
replicas. The step looks at what the tape is asked to differentiate, and may warn; the tape
computes what it always does. And a step that is in the scope, but not on a replica, fails in
the tape first, with an error of TensorFlow's that does not say what to write.
"""

import tensorflow as tf

from tfdist.compat import active_step
from tfdist.compat.optimizer import not_on_a_replica
from tfdist.compat.replacing import replace
from tfdist.compat.strategy import is_tfdist


def install():
    replace(
        tf.GradientTape,
        "gradient",
        _tell_the_step,
        "in a step; and where TensorFlow refuses it in a scope, but not on a replica",
        "shows the loss to the step, which may warn; raises an error that says what to write",
    )


def _tell_the_step(original):
    def gradient(self, target, sources, *args, **kwargs):
        step = active_step.current()
        if step is not None:
            for value in tf.nest.flatten(target):
                step.note_target(value)
        try:
            return original(self, target, sources, *args, **kwargs)
        except ValueError as error:
            strategy = tf.distribute.get_strategy()
            if not _needs_a_replica(strategy):
                raise
            raise not_on_a_replica(
                "`tf.GradientTape.gradient`", "in the scope", strategy
            ) from error

    return gradient


def _needs_a_replica(strategy):
    if not is_tfdist(strategy) or strategy.is_asynchronous:
        return False
    return tf.distribute.in_cross_replica_context()
