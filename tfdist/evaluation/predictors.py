"""What can be evaluated: each is called with inputs and returns scores, a batch at a time."""

import os
import pathlib

import keras
import tensorflow as tf

from tfdist.evaluation.calling import in_batches, only_output
from tfdist.evaluation.litert import LiteRTPredictor
from tfdist.evaluation.saved_model import SavedModelPredictor


def predictor_of(model):
    """Finds how `model` is called.

    Args:
        model: a Keras model; the path of a `.keras` file, of a `.tflite` file or of a
            SavedModel's directory; a loaded SavedModel; or a callable from a batch of inputs
            to scores.

    Returns:
        An object with `name`, `loss` (the compiled one, or None), `is_quantized` and
        `predict(x, batch_size, done=None)`, which returns an array of scores, and calls
        `done` with the number of examples of each batch.

    Raises:
        ValueError: the path is none of these, or the model has several outputs.
        TypeError: `model` is none of these.
        ImportError: a `.tflite` file without the package that runs it.
    """
    if isinstance(model, (str, os.PathLike)):
        return _of_path(pathlib.Path(model))
    if isinstance(model, keras.Model):
        return KerasPredictor(model)
    if hasattr(model, "signatures"):
        return SavedModelPredictor(model)
    if callable(model):
        return CallablePredictor(model)
    raise TypeError(
        f"Received a {type(model).__name__} to evaluate; expected a Keras model, the path of a "
        "`.keras` file, a `.tflite` file or a SavedModel, or a callable from inputs to scores."
    )


def _of_path(path):
    if path.suffix == ".keras" and path.is_file():
        _register()
        return KerasPredictor(keras.saving.load_model(path), path.name)
    if path.suffix == ".tflite" and path.is_file():
        return LiteRTPredictor(path)
    if (path / "saved_model.pb").is_file():
        return SavedModelPredictor(tf.saved_model.load(str(path)), path.name)
    raise ValueError(
        f"Found no model at {str(path)!r}; expected a `.keras` file, a `.tflite` file or the "
        "directory of a SavedModel (with a saved_model.pb)."
    )


def _register():
    """Makes tfdist's own layers and metrics known to Keras, which loads no others."""
    import tfdist.evaluation.temperature
    import tfdist.metrics  # noqa: F401


class KerasPredictor:
    """A Keras model, by its `predict`: over all workers where it was made under a strategy."""

    is_quantized = False

    def __init__(self, model, name=None):
        self.model = model
        self.name = name or model.name
        self.loss = getattr(model, "loss", None)

    def predict(self, x, batch_size, done=None):
        x = keras.tree.map_structure(_strings_as_tensors, self._its_own(x))
        callbacks = [] if done is None else [_AfterBatches(done, batch_size)]
        outputs = self.model.predict(x, batch_size=batch_size, verbose=0, callbacks=callbacks)
        return only_output(outputs, f"The model {self.name!r}")

    def _its_own(self, x):
        """`x` without the columns that the model does not take; they serve the slices."""
        inputs = getattr(self.model, "inputs", None)  # a subclassed model has none
        if not isinstance(x, dict) or not inputs:
            return x
        form = inputs[0] if isinstance(self.model, keras.Sequential) else self.model.input
        names = [one.name for one in keras.tree.flatten(form)]
        if isinstance(form, dict):
            return {name: x[name] for name in form} if set(form) <= set(x) else x
        if not set(names) <= set(x):
            return x
        return keras.tree.pack_sequence_as(form, [x[name] for name in names])


class CallablePredictor:
    """A function, or a Keras layer, from a batch of inputs to scores."""

    is_quantized = False
    loss = None

    def __init__(self, function):
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def predict(self, x, batch_size, done=None):
        def call(batch):
            return only_output(self.function(batch), f"The callable {self.name!r}")

        return in_batches(call, x, batch_size, done)


class _AfterBatches(keras.callbacks.Callback):
    """Calls `done` with how many examples were predicted since the last time."""

    def __init__(self, done, batch_size):
        super().__init__()
        self._done, self._batch_size, self._batches = done, batch_size, 0

    def on_predict_batch_end(self, batch, logs=None):
        # `batch` is the last one of several where they are run in one call.
        self._done((batch + 1 - self._batches) * self._batch_size)
        self._batches = batch + 1


def _strings_as_tensors(array):
    if array.dtype.kind not in "OUS":
        return array
    return tf.constant(array)
