"""Sends the chief's variables to all workers, bit for bit, in few messages."""

import zlib

import keras
import tensorflow as tf

from tfdist.compat import strategy as engine
from tfdist.compat import training_state
from tfdist.compat.layout import is_alike, piece_of
from tfdist.sync import ring_ops

_MESSAGE_BYTES = 64 * 2**20


def layer_variables(model):
    """The Keras variables that layers of a model may assign."""
    known = list(model.non_trainable_variables)
    ids = {id(v) for v in known}
    return [*known, *(v for v in training_state.states_of(model) if id(v) not in ids)]


def model_variables(model):
    """The Keras variables of a model, its layers' states and its optimizer."""
    optimizer = getattr(model, "optimizer", None)
    of_optimizer = optimizer.variables if optimizer is not None else ()
    every = [*model.variables, *training_state.states_of(model), *of_optimizer]
    return list({id(v): v for v in every}.values())


def optimizers_of(model):
    """The optimizers of a model by name, its own and those in attributes (a GAN's two)."""
    found = {}
    named = {"optimizer": getattr(model, "optimizer", None), **vars(model)}
    for attribute, value in named.items():
        inside = value.values() if isinstance(value, dict) else value
        for place, part in enumerate(inside if isinstance(value, (dict, list, tuple)) else [value]):
            if isinstance(part, keras.optimizers.Optimizer):
                found.setdefault(id(part), (f"{attribute.lstrip('_')} {place}", part))
    return dict(found.values())


def all_variables(model):
    """The distributed variables of a Keras model, its optimizer and its metrics."""
    of_metrics = [variable for metric in model.metrics for variable in metric.variables]
    return [variable.value for variable in (*model_variables(model), *of_metrics)]


def describe(variables):
    """A line for each variable, equal on workers that made the same ones, or pieces of them."""
    lines = []
    for variable in variables:
        piece = piece_of(variable)
        shape = f"{tuple(variable.shape)}" if piece is None else f"a piece of {piece.whole}"
        lines.append(f"{shape} {variable.dtype.name}")
    return lines


def fingerprints(variables):
    """A line for each variable that replicas hold alike, equal where its bits are.

    Args:
        variables: iterable of distributed variables; others among them have no line.
    """
    lines = []
    for variable in variables:
        if is_alike(variable) and not engine.is_sync_on_read(variable):
            value = engine.local_components(variable)[0].numpy()
            lines.append(f"{variable.name} {zlib.crc32(value.tobytes()):08x}")
    return lines


def send_to_all(strategy, variables):
    """Assigns every worker's `variables` the chief's values. A collective call.

    A piece of a variable stays what its worker made of it: the chief has another.

    Args:
        strategy: a multi-worker strategy.
        variables: list of distributed variables; the same shapes (but of pieces) and
            dtypes, in the same order, on all workers.
    """
    for message in _messages([v for v in variables if piece_of(v) is None]):
        parts = [_to_integers(engine.local_components(v)[0].read_value()) for v in message]
        flat = tf.concat(parts, axis=0)
        # The sum of the chief's bits and of zeros: exact, whatever the dtype.
        flat = _sum(strategy, flat if strategy.is_chief else tf.zeros_like(flat))
        sizes = [part.shape[0] for part in parts]
        for variable, integers in zip(message, tf.split(flat, sizes)):
            components = engine.local_components(variable)
            value = _from_integers(integers, components[0].shape, components[0].dtype)
            for component in components:
                component.assign(value)


def _sum(strategy, value):
    if strategy.ring is None:
        return strategy.reduce("SUM", value)
    # TensorFlow's messages share a connection with its heartbeats: on a slow link the
    # heartbeats of a large model come too late, and the workers take each other for lost.
    return ring_ops.all_reduce(strategy.ring, [value])[0]


def _messages(variables):
    """Groups variables by the width of their integers and by size."""
    groups = {}
    for variable in variables:
        if variable.dtype.size and variable.shape.num_elements():
            groups.setdefault(variable.dtype.size == 8, []).append(variable)
    for group in groups.values():
        message, size = [], 0
        for variable in group:
            message.append(variable)
            size += variable.dtype.size * variable.shape.num_elements()
            if size >= _MESSAGE_BYTES:
                yield message
                message, size = [], 0
        if message:
            yield message


_INTEGERS = {1: tf.int8, 2: tf.int16, 4: tf.int32, 8: tf.int64}


def _to_integers(value):
    if value.dtype == tf.bool:
        value = tf.cast(value, tf.int8)
    integers = tf.bitcast(value, _INTEGERS[value.dtype.size])
    return tf.reshape(integers if value.dtype.size == 8 else tf.cast(integers, tf.int32), [-1])


def _from_integers(integers, shape, dtype):
    integers = tf.reshape(integers, shape)
    if dtype == tf.bool:
        return tf.cast(integers, tf.bool)
    return tf.bitcast(tf.cast(integers, _INTEGERS[dtype.size]), dtype)
