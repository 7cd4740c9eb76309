"""What compressors accept."""

import tensorflow as tf


def shape_of(variable):
    """The shape of a variable, which must be known."""
    shape = tf.TensorShape(variable.shape)
    if not shape.is_fully_defined():
        raise ValueError(
            f"A variable of shape {shape} was received: expected one whose shape is known. "
            "Build the model first."
        )
    return shape


def gradient_dtype(variable):
    """float32 or float64: the dtype of the gradient of a variable."""
    dtype = tf.as_dtype(variable.dtype)
    if not dtype.is_floating or dtype.size < 2:
        raise ValueError(
            f"A variable of dtype {dtype.name} was received: expected float16, bfloat16, float32 "
            "or float64, whose gradients can be compressed. Train this model without a compressor."
        )
    return tf.float64 if dtype == tf.float64 else tf.float32


def checked(gradient):
    """`gradient`, if it is a dense tensor of a dtype that can be reduced."""
    if isinstance(gradient, tf.IndexedSlices):
        raise ValueError(
            "A gradient that is a `tf.IndexedSlices` was received: expected a dense tensor. "
            "Convert it by `tf.convert_to_tensor`."
        )
    if gradient.dtype not in (tf.float32, tf.float64):
        raise ValueError(
            f"A gradient of dtype {gradient.dtype.name} was received: expected float32 or float64. "
            "Cast it first."
        )
    if not gradient.shape.is_fully_defined():
        raise ValueError(
            f"A gradient of shape {gradient.shape} was received: expected one whose shape is "
            "known. Set it by `tf.ensure_shape`."
        )
    return gradient
