"""A LiteRT (TensorFlow Lite) file, float or quantized."""

import numpy as np

from tfdist.evaluation.calling import in_batches, named_inputs, only_output


class LiteRTPredictor:
    """A `.tflite` file, run by the LiteRT interpreter on the CPU.

    It takes and returns real numbers: a quantized input is divided by its scale and rounded,
    a quantized output multiplied by its own. A file with a fixed batch size is given whole
    batches, the last filled up with copies of its last example.

    Args:
        path: `pathlib.Path` of the file.

    Raises:
        ImportError: the package ai-edge-litert is missing.
        ValueError: the file is no LiteRT model.
    """

    loss = None

    def __init__(self, path):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "Evaluating a `.tflite` file needs the LiteRT interpreter: "
                'pip install "tfdist[litert]"'
            ) from error
        self.name = path.name
        self._interpreter = Interpreter(model_path=str(path))
        details = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        names = [detail["name"] for detail in details]
        signatures = self._interpreter.get_signature_list()
        if len(signatures) == 1:
            (key,) = signatures
            by_name = self._interpreter.get_signature_runner(key).get_input_details()
            names, details = list(by_name), list(by_name.values())
        self._inputs = dict(zip(names, details))
        fixed = {int(detail["shape_signature"][0]) for detail in details} - {-1}
        self._fixed_batch = fixed.pop() if len(fixed) == 1 else None
        self._shapes = None
        self.is_quantized = any(_scale(detail) for detail in [*self._outputs])

    def predict(self, x, batch_size, done=None):
        return in_batches(self._batch, x, self._fixed_batch or batch_size, done)

    def _batch(self, batch):
        named = named_inputs(batch, self._inputs, f"The file {self.name!r}")
        examples = len(next(iter(named.values())))
        if self._fixed_batch and examples < self._fixed_batch:
            missing = self._fixed_batch - examples
            named = {n: np.concatenate([v, v[-1:].repeat(missing, 0)]) for n, v in named.items()}
        shapes = {name: np.shape(value) for name, value in named.items()}
        if shapes != self._shapes:
            self._resize(shapes)
        for name, value in named.items():
            detail = self._inputs[name]
            self._interpreter.set_tensor(detail["index"], _quantized(value, detail))
        self._interpreter.invoke()
        outputs = {
            detail["name"]: _dequantized(self._interpreter.get_tensor(detail["index"]), detail)
            for detail in self._outputs
        }
        return only_output(outputs, f"The file {self.name!r}")[:examples]

    def _resize(self, shapes):
        for name, shape in shapes.items():
            detail = self._inputs[name]
            expected = tuple(int(size) for size in detail["shape_signature"])
            fits = len(shape) == len(expected) and all(
                size in (-1, got) for size, got in zip(expected, shape)
            )
            if not fits:
                raise ValueError(
                    f"The file {self.name!r} takes {name!r} of shape {expected} (-1: any size); "
                    f"received {shape}."
                )
            self._interpreter.resize_tensor_input(detail["index"], shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


def _scale(detail):
    """The scale of a quantized tensor, or 0.0."""
    return float(detail["quantization"][0]) if np.dtype(detail["dtype"]).kind in "iu" else 0.0


def _quantized(value, detail):
    dtype, scale = detail["dtype"], _scale(detail)
    if scale:
        limits = np.iinfo(dtype)
        value = np.asarray(value, "float64") / scale
        value = np.sign(value) * np.floor(np.abs(value) + 0.5)  # halves away from 0, as LiteRT
        value = np.clip(value + detail["quantization"][1], limits.min, limits.max)
    return np.ascontiguousarray(value, dtype=dtype)


def _dequantized(value, detail):
    scale = _scale(detail)
    if not scale:
        return value
    return (value.astype("float64") - detail["quantization"][1]) * scale
