"""`tfdist.evaluate`: how good a model is, exactly."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdist import cluster_info
from tfdist.arguments import integer
from tfdist.evaluation import slicing
from tfdist.evaluation.bootstrap import check_resampling
from tfdist.evaluation.data import chunks
from tfdist.evaluation.inputs import TASKS, make_predictions
from tfdist.evaluation.predictors import predictor_of
from tfdist.evaluation.progress import AFTER_S, Progress
from tfdist.evaluation.summary import summarise
from tfdist.evaluation.threshold import Threshold
from tfdist.evaluation.workers import Workers

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import tensorflow as tf

    from tfdist.evaluation.report import EvaluationReport


def evaluate(
    model: keras.Model | str | os.PathLike[str] | Callable[[Any], Any] | Any,
    data: tuple[Any, ...] | tf.data.Dataset | keras.utils.PyDataset | Iterable[Any],
    *,
    sample_weight: npt.ArrayLike | None = None,
    task: str | None = None,
    from_logits: bool | None = None,
    class_names: Sequence[str] | None = None,
    threshold: float | Threshold = 0.5,
    slices: Mapping[str, npt.ArrayLike] | None = None,
    confidence: float = 0.95,
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
    verbose: int | str = "auto",
) -> EvaluationReport:
    """Evaluates a classifier, with intervals, curves and slices.

    All metrics are those of the whole data set, from its gathered predictions, and equal to
    scikit-learn's. Under a tfdist strategy all workers call it together, with the same data;
    they share the predictions out and all get the same report. The data are walked once; the
    inputs are held a part at a time, labels and scores altogether.

    Example:

    >>> import numpy as np
    >>> labels = np.array([0, 0, 1, 1])
    >>> scores = np.array([0.1, 0.6, 0.4, 0.9])
    >>> report = evaluate(lambda x: x, (scores, labels), bootstrap=0)
    >>> report.metrics["roc_auc"].value
    0.75
    >>> report.confusion_matrix
    array([[1., 1.],
           [1., 1.]])

    With a model:

    ```python
    report = tfdist.evaluate(model, (x_test, y_test), slices={"country": countries})
    print(report)
    report.to_html("report.html")
    ```

    Args:
        model: a Keras model with one output; the path of a `.keras` file, of a `.tflite` file
            (extra `litert`) or of a SavedModel's directory; a loaded SavedModel; or a callable
            from a batch of inputs to scores.
        data: `(x, y)` or `(x, y, sample_weight)` of arrays; a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or another iterable of such batches. Labels are (examples,)
            of class numbers, or (examples, classes) of 0 and 1.
        sample_weight: array (examples,) of at least 0, where `data` is `(x, y)`. Examples of
            weight 0 are left out.
        task: "binary", "multiclass" or "multilabel"; None to infer it from the shapes and the
            compiled loss. Binary scores are (examples,) or (examples, 1), those of class 1, or
            (examples, 2).
        from_logits: bool, whether scores are logits; None to take it from the compiled loss,
            or to expect probabilities.
        class_names: list of str, one for each class or label.
        threshold: float, or a `tfdist.evaluation.Threshold` chosen on other data; a score of
            at least it is positive. Not for multiclass.
        slices: dict of a name to an array with a value for each example, in the order of the
            data (which must not shuffle then), or to the name of a column where the inputs
            are a dict. Each value gets its own row of metrics.
        confidence: float, of the percentile intervals of the bootstrap.
        bootstrap: int, the number of resamples; 0 for no intervals.
        seed: int, for the resamples.
        batch_size: int, the examples of a batch of predictions.
        verbose: 1 for a progress bar on the chief, 0 for none; "auto" for one where it takes
            more than some seconds.

    Returns:
        An `EvaluationReport`.

    Raises:
        ValueError: empty data; scores that are NaN, or outside of [0, 1] without
            `from_logits=True`; labels that are out of range; shapes that do not fit; a task
            that cannot be inferred.
        ImportError: a `.tflite` file, and the extra `litert` is missing.
        RuntimeError: workers walk different data.

    Warns:
        UndefinedMetricWarning: a class has no example, so that ROC AUC is NaN.
        UserWarning: a `Threshold` is scored on the data that it was chosen on.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Guo et al., On
        calibration of modern neural networks, 2017, 1706.04599 (the calibration error).
    """
    _check(task, threshold, confidence, bootstrap, batch_size)
    if verbose not in (0, 1, "auto"):
        raise ValueError(f"verbose={verbose!r}: expected 0, 1 or 'auto'.")
    predictor = predictor_of(model)
    labels, scores, weights, columns = _gather(
        predictor, data, sample_weight, slicing.named_columns(slices), batch_size, verbose
    )
    predictions, kept = make_predictions(
        labels,
        scores,
        weights,
        task=task,
        from_logits=from_logits,
        loss=predictor.loss,
        class_names=class_names,
        is_quantized=predictor.is_quantized,
    )
    return summarise(
        predictor.name,
        predictions,
        _threshold_for(predictions, threshold),
        slicing.groups(slices, columns, kept),
        confidence,
        bootstrap,
        seed,
    )


def _check(task, threshold, confidence, resamples, batch_size):
    if task not in (None, *TASKS):
        raise ValueError(f"task={task!r}: expected one of {TASKS}, or None to infer it.")
    is_number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
    if not isinstance(threshold, Threshold) and not (is_number and math.isfinite(threshold)):
        raise ValueError(
            f"threshold={threshold!r}: expected a number, or a `tfdist.evaluation.Threshold`."
        )
    check_resampling(confidence, resamples)
    integer("batch_size", batch_size, least=1)


def _gather(predictor, data, sample_weight, named, batch_size, verbose):
    """Labels, scores, weights (or None) and the named columns of all examples."""
    workers = Workers(predictor)
    total = len(data[1]) if isinstance(data, tuple) and len(data) > 1 else None
    after = AFTER_S if verbose == "auto" else 0.0
    progress = Progress(total, bool(verbose) and cluster_info.is_chief(), after)
    labels, scores, weights, columns = [], [], [], {name: [] for name in named}
    for chunk in chunks(data, sample_weight, batch_size):
        workers.agree_on(chunk)
        found = predictor.predict(chunk.x, batch_size, progress.add)
        if np.ndim(found) == 0 or len(found) != len(chunk):
            raise ValueError(
                f"The model gave scores of shape {np.shape(found)} for {len(chunk)} examples; "
                "expected one row of scores for each example."
            )
        scores.append(found)
        labels.append(chunk.y)
        weights.append(chunk.weight)
        for name, values in columns.items():
            values.append(slicing.column_of(chunk.x, name))
    workers.agree_on(None)
    for parts, what in ((labels, "labels"), (scores, "scores")):
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            raise ValueError(
                f"Batches have {what} of different shapes: (examples, ...) with {sorted(shapes)}. "
                "Flatten sequences into examples, or pad all to one length."
            )
    return (
        np.concatenate(labels),
        np.concatenate(scores),
        _all_weights(labels, weights),
        {name: np.concatenate(values) for name, values in columns.items()},
    )


def _all_weights(labels, weights):
    if all(part is None for part in weights):
        return None
    return np.concatenate([np.ones(len(y)) if w is None else w for y, w in zip(labels, weights)])


def _threshold_for(predictions, threshold):
    if isinstance(threshold, Threshold):
        if threshold.chosen_on == predictions.fingerprint:
            warnings.warn(
                "The threshold is scored on the data that it was chosen on, which makes the model "
                "look better than it is. Choose it on validation data, score it on test data.",
                stacklevel=3,
            )
        threshold = threshold.value
    if predictions.task != "multiclass":
        return float(threshold)
    if threshold != 0.5:
        raise ValueError(
            f"threshold={threshold}: this is a multiclass task, where the highest score is the "
            'prediction. Leave threshold out, or pass task="binary" for two classes.'
        )
    return None
