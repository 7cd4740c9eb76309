"""`jit_compile=True`: XLA compiles what a replica computes, with the collectives in between.

A step that XLA compiles as a whole could hold no collectives. So Keras' train step
is cut where it calls the optimizer: forward and backward pass are one program,
which returns the gradients; then they are reduced, and the update runs.

Limits: a train step of the user's own may use its variables again after the update,
so it is compiled on a single replica only. A model whose forward pass communicates
(synchronized BatchNormalization, losses with masks) is not compiled on several.
"""

import functools

import tensorflow as tf

from tfdist.compat import trainer as compat_trainer
from tfdist.sync.collected_updates import CommunicatesError


def compiled(model, step_function):
    """A function like `step_function` whose computation XLA compiles.

    Args:
        model: the Keras model.
        step_function: `model.train_step` or `model.test_step`, or a wrapper of it that
            returns any structure of tensors.

    Returns:
        A function of `(step, data)`, to be called where `step` is active.
    """

    def run(step, data):
        if step.num_replicas == 1:
            return with_xla(step_function)(data)
        if not compat_trainer.has_keras_steps(model):
            return step_function(data)
        forward_backward = functools.partial(_without_updates, step, step_function)
        try:
            results, gradients = with_xla(forward_backward)(data)
        except CommunicatesError:
            return step_function(data)
        step.compiles_updates = True
        for (optimizer, variables), values in zip(step.take_updates(), gradients):
            optimizer.apply(values, variables)
        return results

    return run


def _without_updates(step, step_function, data):
    with step.collecting_updates() as gradients:
        results = step_function(data)
    return results, gradients


def with_xla(function):
    """`function`, compiled by XLA when a graph calls it."""
    return tf.function(function, jit_compile=True, autograph=False)
