"""What looks at the gradients in front of the update of a step, and may change them.

They are the gradients that one process would see: of this step, reduced over replicas, before
they are clipped and accumulated. Where the loss was scaled for mixed precision they are shown
without the scale; in a step whose gradients overflow, which the optimizer leaves out, they are
shown as zeros.

Limits: with gradient accumulation these are the gradients of each step, not those of the
update. Under local methods they are this replica's own.
"""

import contextlib

import tensorflow as tf


class BeforeUpdate:
    """The links of a model's chain; they run in the order in which they were added.

    Example:

    >>> import tensorflow as tf
    >>> chain = BeforeUpdate()
    >>> with chain.linked(lambda gradients, variables: [2 * one for one in gradients]):
    ...     float(chain.run([tf.constant(1.5)], ["weight"])[0])
    3.0
    """

    def __init__(self):
        self._links = []

    @contextlib.contextmanager
    def linked(self, link):
        """Adds a link for as long as the context lasts.

        Args:
            link: function of the list of gradients (tensors, `tf.IndexedSlices` or None) and of
                the list of the Keras variables that they belong to, of one `apply` of an
                optimizer. Traced in each step, on each replica. It returns the gradients to go
                on with, or None for those that it was given.
        """
        self._links.append(link)
        try:
            yield
        finally:
            self._links.remove(link)

    def run(self, gradients, variables, scale=None):
        """The gradients that the optimizer is to apply.

        Args:
            gradients, variables: see `linked`.
            scale: scalar, which the gradients are multiplied with; None for 1.
        """
        if not self._links:
            return gradients
        finite = None if scale is None else _all_finite(gradients)
        shown = gradients
        if scale is not None:
            shown = [g if g is None else _unscaled(g, scale, finite) for g in gradients]
        now = shown
        for link in self._links:
            changed = link(now, variables)
            now = now if changed is None else list(changed)
        if scale is None:
            return now
        pairs = zip(gradients, shown, now)
        return [of if new is old else _scaled(new, scale, finite, of) for of, old, new in pairs]


def _all_finite(gradients):
    values = [tf.convert_to_tensor(_values(g)) for g in gradients if g is not None]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values])


def _unscaled(gradient, scale, finite):
    values = _values(gradient)
    factor = tf.where(finite, 1 / tf.cast(scale, values.dtype), 0)
    values = tf.math.multiply_no_nan(values, factor)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values


def _scaled(gradient, scale, finite, original):
    """A changed gradient; where the original overflows that one, so that it is left out."""
    value = tf.convert_to_tensor(gradient) * tf.cast(scale, gradient.dtype)
    return tf.where(finite, value, tf.convert_to_tensor(original))


def _values(gradient):
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
