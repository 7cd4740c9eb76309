"""Labels and scores as they come, checked and brought to one form for each task."""

import keras
import numpy as np
from scipy import special

from tfdist.evaluation.predictions import Predictions

TASKS = ("binary", "multiclass", "multilabel")


def make_predictions(
    labels,
    scores,
    weights=None,
    *,
    task=None,
    from_logits=None,
    loss=None,
    class_names=None,
    is_quantized=False,
):
    """Checks labels and scores and brings them to one form.

    Args:
        labels: array (examples,) or (examples, 1) of class numbers, or (examples, classes)
            of 0 and 1.
        scores: array (examples,), (examples, 1) or (examples, classes), as the model gave it.
        weights: None, or an array (examples,) of at least 0.
        task: "binary", "multiclass", "multilabel", or None to infer it.
        from_logits: bool, or None to infer it.
        loss: the compiled loss, by which task and from_logits are inferred, or None.
        class_names: None, or a list of str.
        is_quantized: bool, whether rows of probabilities sum to 1 only roughly.

    Returns:
        `Predictions`, and a bool array of the examples kept: those with a weight above 0.

    Raises:
        ValueError: what was given does not fit; the error says what does.
    """
    labels, scores = np.asarray(labels), _checked_scores(scores)
    if len(labels) != len(scores):
        raise ValueError(
            f"The model gave scores of shape {scores.shape} for {len(labels)} labels; expected one "
            "row of scores for each example."
        )
    loss = _only_loss(loss)
    labels = _checked_labels(labels)
    if task is None:
        task = _infer_task(labels, scores, loss)
    if task not in TASKS:
        raise ValueError(f"task={task!r}: expected one of {TASKS}, or None to infer it.")
    _check_widths(task, labels, scores)
    if from_logits is None:
        from_logits = _from_logits_of(loss)
    scores = _probabilities(task, scores, from_logits, is_quantized)
    labels = _labels_of_task(task, labels, scores)
    weights, keep = _checked_weights(weights, len(labels))
    classes = 2 if task == "binary" else scores.shape[1]
    names = _names(class_names, classes)
    return Predictions(task, labels[keep], scores[keep], weights[keep], names), keep


def _checked_scores(scores):
    scores = np.asarray(scores)
    if scores.ndim not in (1, 2):
        raise ValueError(
            f"The model gave scores of shape {scores.shape}; expected (examples,), (examples, 1) "
            "or (examples, classes). Flatten sequences and images into examples first: "
            "`reshape(-1, classes)` of scores and labels."
        )
    scores = scores.astype("float64")
    bad = ~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"The model gave NaN or infinite scores for {int(bad.sum())} of {len(scores)} "
            f"examples, first for example {int(bad.argmax())}; expected finite numbers. Look for "
            "NaN in the weights (a diverged training) and in the inputs."
        )
    return scores


def _checked_labels(labels):
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2):
        raise ValueError(
            f"Received labels of shape {labels.shape}; expected (examples,) or (examples, classes)."
        )
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"Received labels of type {labels.dtype}; expected numbers, 0 to classes - 1. Map "
            "names to numbers, and pass the names as class_names."
        )
    whole = None
    if np.isfinite(labels).all():
        with np.errstate(invalid="ignore"):  # a float beyond int64
            whole = labels.astype("int64")
    if whole is None or (whole != labels).any():
        wrong = labels[~np.isfinite(labels)] if whole is None else labels[whole != labels]
        raise ValueError(
            f"Received {len(wrong)} labels that are no whole numbers, such as {wrong.flat[0]}; "
            "expected class numbers, or 0 and 1. Soft labels have no accuracy or area."
        )
    return whole


def _only_loss(loss):
    flat = keras.tree.flatten(loss)
    return flat[0] if len(flat) == 1 else None


def _loss_name(loss):
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.replace("_", "").lower()


def _from_logits_of(loss):
    if isinstance(getattr(loss, "from_logits", None), bool):
        return loss.from_logits
    return False if "crossentropy" in _loss_name(loss) else None


def _infer_task(labels, scores, loss):
    if scores.ndim == 1 or scores.shape[1] == 1:
        return "multilabel" if labels.ndim == 2 else "binary"
    if labels.ndim == 1:
        return "multiclass"
    name = _loss_name(loss)
    if name.startswith("binary"):
        return "multilabel"
    if name.startswith(("categorical", "sparsecategorical")):
        return "multiclass"
    one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
    if not one_hot:
        return "multilabel"
    if np.abs(scores.sum(axis=1) - 1).max() < 1e-3 and scores.min() >= 0:
        return "multiclass"
    raise ValueError(
        f"Labels of shape {labels.shape} with a single 1 in each row are either classes that "
        'exclude each other or independent labels: pass task="multiclass" or task="multilabel".'
    )


def _check_widths(task, labels, scores):
    width = 1 if scores.ndim == 1 else scores.shape[1]
    expected = None
    if task == "multiclass":
        if width < 2:
            expected = "(examples, classes) with at least 2 classes"
        elif labels.ndim == 2 and labels.shape[1] != width:
            expected = f"(examples, {labels.shape[1]}), a score for each column of the labels"
    elif task == "multilabel":
        columns = 1 if labels.ndim == 1 else labels.shape[1]
        if width != columns:
            expected = f"(examples, {columns}), a score for each label"
    elif width > 2 or (labels.ndim == 2 and labels.shape[1] != 2):
        expected = "(examples,), (examples, 1) or (examples, 2), with labels of 0 and 1"
    if expected:
        raise ValueError(
            f'task="{task}": received scores of shape {scores.shape} and labels of shape '
            f"{labels.shape}; expected scores of shape {expected}. Give the model that many "
            "outputs, or pass another `task`."
        )


def _probabilities(task, scores, from_logits, is_quantized):
    if task == "binary" and scores.ndim == 2:
        if from_logits and scores.shape[1] == 2:
            return special.expit(scores[:, 1] - scores[:, 0])
    elif task == "multiclass" and from_logits:
        return special.softmax(scores, axis=1)
    if from_logits:
        scores = special.expit(scores)
    low, high = scores.min(), scores.max()
    if low < 0 or high > 1 + 1e-6:
        claimed = "" if from_logits is None else ", though they were said to be probabilities"
        raise ValueError(
            f"The model's scores lie between {low:.6g} and {high:.6g}, outside of [0, 1]{claimed}. "
            "If they are logits, pass from_logits=True; else give the model a sigmoid or softmax."
        )
    scores = np.minimum(scores, 1.0)
    if scores.ndim == 2 and (task == "multiclass" or (task == "binary" and scores.shape[1] == 2)):
        scores = _normalised(scores, from_logits, is_quantized)
    if task == "binary":
        return scores[:, -1] if scores.ndim == 2 else scores
    return scores[:, None] if scores.ndim == 1 else scores


def _normalised(scores, from_logits, is_quantized):
    totals = scores.sum(axis=1, keepdims=True)
    if from_logits is None and not is_quantized and np.abs(totals - 1).max() > 0.01:
        raise ValueError(
            f"The scores of an example sum to between {totals.min():.4g} and {totals.max():.4g}, "
            "not to 1. Pass from_logits=True if they are logits, or from_logits=False to have "
            "each row divided by its sum."
        )
    if totals.min() <= 0:
        raise ValueError(
            f"Example {int(totals.argmin())} has the score 0 for every class; expected "
            "probabilities. If these are logits, pass from_logits=True."
        )
    # Rounding errors stay as they are: dividing by them would untie equal scores.
    return scores if np.abs(totals - 1).max() < 1e-3 else scores / totals


def _labels_of_task(task, labels, scores):
    if labels.ndim == 2:
        if ((labels != 0) & (labels != 1)).any():
            wrong = labels[(labels != 0) & (labels != 1)]
            raise ValueError(
                f"Received labels of shape {labels.shape} with the value {wrong[0]}; expected 0 "
                "and 1 in a column for each class."
            )
        if task == "multilabel":
            return labels
        if (labels.sum(axis=1) != 1).any():
            row = int((labels.sum(axis=1) != 1).argmax())
            raise ValueError(
                f'task="{task}": example {row} has {labels[row].sum()} labels that are 1; expected '
                'one. Pass task="multilabel" if labels are independent.'
            )
        return labels.argmax(axis=1)
    classes = scores.shape[1] if task == "multiclass" else 2
    if labels.min() < 0 or labels.max() >= classes:
        hint = "Map -1 and 1 to 0 and 1." if set(np.unique(labels)) == {-1, 1} else ""
        hint = hint or "Count classes from 0, and give the model an output for each."
        raise ValueError(
            f'task="{task}": received labels from {labels.min()} to {labels.max()}; expected 0 to '
            f"{classes - 1} by the scores' shape. {hint}"
        )
    return labels[:, None] if task == "multilabel" else labels


def _checked_weights(weights, examples):
    if weights is None:
        return np.ones(examples), np.ones(examples, bool)
    weights = np.asarray(weights, "float64").reshape(-1)
    if len(weights) != examples:
        raise ValueError(
            f"Received {len(weights)} weights for {examples} examples; expected one for each."
        )
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(
            f"Received sample_weight with the value "
            f"{weights[~np.isfinite(weights) | (weights < 0)][0]:g}; expected finite numbers of at "
            "least 0."
        )
    if not weights.any():
        raise ValueError("All weights are 0: there is nothing to evaluate. Check sample_weight.")
    return weights, weights > 0


def _names(class_names, classes):
    if class_names is None:
        return tuple(str(number) for number in range(classes))
    names = tuple(str(name) for name in class_names)
    if len(names) != classes or len(set(names)) != classes:
        raise ValueError(
            f"Received {len(names)} class_names, {len(set(names))} of them different; expected "
            f"{classes} different names, one for each class."
        )
    return names
