"""The loss of a train step of the user's own, which nobody else tells.

Needs: `tf.GradientTape.gradient` (public, replaced).
Why: how such a step averages its loss decides whether its gradient is right on several
replicas. The step looks at what the tape is asked to differentiate, and may warn; the tape
computes what it always does.
"""

import tensorflow as tf

from tfdist.compat import active_step
from tfdist.compat.replacing import replace


def install():
    replace(tf.GradientTape, "gradient", _tell_the_step)


def _tell_the_step(original):
    def gradient(self, target, sources, *args, **kwargs):
        step = active_step.current()
        if step is not None:
            for value in tf.nest.flatten(target):
                step.note_target(value)
        return original(self, target, sources, *args, **kwargs)

    return gradient
