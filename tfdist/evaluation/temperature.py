"""Calibration by one number: the temperature that logits are divided by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from scipy import optimize, special

if TYPE_CHECKING:
    import numpy.typing as npt
    import tensorflow as tf


def fit_temperature(
    logits: npt.ArrayLike, labels: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
) -> float:
    """Finds the temperature by which a model's probabilities fit best.

    It minimizes the mean negative log-likelihood of softmax(logits / temperature), or of the
    sigmoid for one column of logits; which is convex in 1 / temperature. Above 1 the model
    was too sure. Neither accuracy nor, for binary tasks, any area changes. Fit it on
    validation data.

    Example:

    >>> import numpy as np
    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> temperature = fit_temperature(logits, [0, 0, 1, 1])  # sure, and right in 3 of 4
    >>> round(float(np.exp(4 / temperature)), 4)  # odds of 3 to 1
    3.0

    With a model of logits, and a test of what it brought:

    ```python
    temperature = tfdist.evaluation.fit_temperature(model.predict(x_val), y_val)
    calibrated = keras.Sequential(
        [model, tfdist.evaluation.TemperatureScaling(temperature), keras.layers.Softmax()]
    )
    print(tfdist.evaluate(calibrated, (x_test, y_test)).metrics["ece"])
    ```

    Args:
        logits: array (examples, classes), or (examples,) or (examples, 1) of a binary task.
            The logarithms of softmax probabilities serve as well.
        labels: ints (examples,), or one-hot (examples, classes).
        sample_weight: array (examples,) of at least 0, or None.

    Returns:
        float above 0.

    Raises:
        ValueError: shapes that do not fit, logits that are not finite, labels out of range;
            or there is no best temperature, since no example is wrong, or since the logits
            are no better than a guess.

    Reference:
        Guo et al., On calibration of modern neural networks, ICML 2017, 1706.04599.
    """
    logits, labels, weights = _checked(logits, labels, sample_weight)
    truth = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]

    def slope(log_inverse):
        """The derivative of the loss in 1 / temperature: rises from its least to its most."""
        shares = special.softmax(np.exp(log_inverse) * logits, axis=1)
        return weights @ ((shares * logits).sum(axis=1) - truth)

    low, high = -16.0, 16.0
    if slope(high) <= 0:
        raise ValueError(
            "There is no best temperature: every example's own class has the highest logit, so "
            "that the surer the better. Fit it on more validation data, of which the model gets "
            "some wrong."
        )
    if slope(low) >= 0:
        raise ValueError(
            "There is no best temperature: on these labels the logits are no better than a guess. "
            "Check that logits and labels belong together."
        )
    return float(np.exp(-optimize.brentq(slope, low, high, xtol=1e-12)))


def _checked(logits, labels, sample_weight):
    logits, labels = np.asarray(logits, "float64"), np.asarray(labels)
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
        logits = np.stack([np.zeros(len(logits)), logits.reshape(-1)], axis=1)
    if logits.ndim != 2 or not logits.size:
        raise ValueError(
            f"Received logits of shape {logits.shape}; expected (examples, classes), or "
            "(examples,) of a binary task, and at least one example."
        )
    if not np.isfinite(logits).all():
        raise ValueError(
            "Received logits that are NaN or infinite; expected finite numbers. Of probabilities, "
            "pass `np.log(np.maximum(probabilities, 1e-30))`."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.shape != logits.shape or not (np.sort(labels)[:, -2:] == [0, 1]).all():
            raise ValueError(
                f"Received labels of shape {labels.shape} for logits of shape {logits.shape}; "
                "expected (examples,) of class numbers, or one-hot rows of the logits' shape."
            )
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1)
    whole = labels.astype("int64") if np.isfinite(labels).all() else np.array([-1])
    valid = len(whole) == len(logits) and (whole == labels).all()
    if not valid or whole.min() < 0 or whole.max() >= logits.shape[1]:
        raise ValueError(
            f"Received {len(labels)} labels from {labels.min()} to {labels.max()} for logits of "
            f"shape {logits.shape}; expected {len(logits)} class numbers from 0 to "
            f"{logits.shape[1] - 1}."
        )
    if sample_weight is None:
        return logits, whole, np.ones(len(logits))
    weights = np.asarray(sample_weight, "float64").reshape(-1)
    if len(weights) != len(logits) or not (weights >= 0).all() or not weights.any():
        raise ValueError(
            f"Received sample_weight of {len(weights)} values for {len(logits)} examples; expected "
            "one of at least 0 for each, and some above 0."
        )
    return logits, whole, weights


@keras.saving.register_keras_serializable(package="tfdist")
class TemperatureScaling(keras.layers.Layer):
    """Divides logits by a temperature.

    It goes between a model of logits and its softmax or sigmoid, and is saved with them.

    Example:

    >>> import keras
    >>> TemperatureScaling(2.0)(keras.ops.array([[4.0, -2.0]])).numpy()
    array([[ 2., -1.]], dtype=float32)

    Args:
        temperature: float above 0, as `fit_temperature` returns it.

    Raises:
        ValueError: `temperature` is not a finite number above 0.

    Reference:
        Guo et al., On calibration of modern neural networks, ICML 2017, 1706.04599.
    """

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        is_number = isinstance(temperature, (int, float, np.number))
        if not is_number or isinstance(temperature, bool) or not 0 < temperature < np.inf:
            raise ValueError(
                f"temperature={temperature!r}: expected a finite number above 0, as "
                "`fit_temperature` returns it."
            )
        self.temperature = float(temperature)
        self.supports_masking = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs / self.temperature

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Its arguments, as JSON values."""
        return {**super().get_config(), "temperature": self.temperature}
