"""What the step functions do with what they are called with."""

import keras
import tensorflow as tf

from tfdist.data.split import GlobalBatch


def begin(strategy, model, first):
    """Lets all workers compare notes, once for each call of a Keras method.

    Args:
        strategy: a tfdist strategy.
        model: the Keras model.
        first: whether the step function has never run (`train_on_batch` runs it
            without a call that was checked).
    """
    facts, strategy.next_call = strategy.next_call, None
    if facts is not None or first:
        strategy.batch_size = (facts or {}).get("batch size")
        strategy.begin(model, facts or {})


def unpack(batch):
    """Splits what an iterator yields.

    Returns:
        `(data, examples, global_examples)`: the replica's data, how many of its
        examples count, and how many the global batch has (None: not known).
    """
    if isinstance(batch, GlobalBatch):
        return batch.data, batch.examples, batch.global_examples
    return batch, count_examples(batch), None


def count_examples(data):
    """Scalar int32: the first dimension of the first tensor of the inputs.

    Args:
        data: a batch, `x`, `(x, y)` or `(x, y, sample_weight)`.
    """
    x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    for value in keras.tree.flatten(x):
        if isinstance(value, tf.RaggedTensor):
            return tf.cast(value.nrows(), tf.int32)
        if isinstance(value, tf.SparseTensor):
            return tf.cast(value.dense_shape[0], tf.int32)
        if value is not None:
            return tf.shape(value)[0]
    raise ValueError(
        "A training batch must hold at least one input tensor with a batch dimension. "
        f"Received: {data!r}. Yield `(x, y)` or `(x, y, sample_weight)`."
    )
