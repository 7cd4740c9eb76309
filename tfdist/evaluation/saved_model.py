"""A SavedModel, by its serving signature."""

import tensorflow as tf

from tfdist.evaluation.calling import in_batches, named_inputs, only_output

SIGNATURE = "serving_default"


class SavedModelPredictor:
    """A SavedModel, as `model.export(path)` writes it.

    Args:
        model: what `tf.saved_model.load` returns.
        name: str, shown in the report.

    Raises:
        ValueError: it has no signature `serving_default`.
    """

    is_quantized = False
    loss = None

    def __init__(self, model, name="SavedModel"):
        self.name = name
        self._model = model  # keeps its variables alive
        if SIGNATURE not in model.signatures:
            raise ValueError(
                f"The SavedModel {name!r} has the signatures {sorted(model.signatures)}; expected "
                f"{SIGNATURE!r}. Write it by `model.export(path)`."
            )
        self._function = model.signatures[SIGNATURE]
        self._specs = self._function.structured_input_signature[1]

    def predict(self, x, batch_size, done=None):
        def call(batch):
            named = named_inputs(batch, self._specs, f"The SavedModel {self.name!r}")
            tensors = {
                name: tf.cast(value, self._specs[name].dtype)
                if self._specs[name].dtype != tf.string
                else tf.constant(value, tf.string)
                for name, value in named.items()
            }
            return only_output(self._function(**tensors), f"The SavedModel {self.name!r}")

        return in_batches(call, x, batch_size, done)
