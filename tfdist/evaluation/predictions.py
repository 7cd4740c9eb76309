"""What a model said of each example, and what was true."""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model said of each example, and what was true.

    Attributes:
        task: "binary", "multiclass" or "multilabel".
        labels: ints; binary and multiclass (examples,), multilabel (examples, labels) of 0, 1.
        scores: float64 probabilities; binary (examples,), else (examples, classes).
        weights: float64 (examples,), all positive.
        class_names: a str for each class.
    """

    task: str
    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def predicted(self, threshold: float | None) -> np.ndarray:
        """The predicted labels, in the form of `labels`; scores of at least `threshold` are 1."""
        if self.task == "multiclass":
            return self.scores.argmax(axis=1)
        return (self.scores >= threshold).astype("int64")

    def correct(self, threshold: float | None) -> np.ndarray:
        """bool (examples,): whether an example's label, or all of its labels, are right."""
        right = self.predicted(threshold) == self.labels
        return right.all(axis=1) if self.task == "multilabel" else right

    @functools.cached_property
    def indicators(self) -> np.ndarray:
        """int8 (examples, columns): whether each class is true; binary: one column, class 1."""
        if self.task == "binary":
            return self.labels[:, None].astype("int8")
        if self.task == "multilabel":
            return self.labels.astype("int8")
        return (self.labels[:, None] == np.arange(self.num_classes)).astype("int8")

    @property
    def columns(self) -> np.ndarray:
        """float64 (examples, columns): the score of each class; binary: of class 1 alone."""
        return self.scores[:, None] if self.task == "binary" else self.scores

    @property
    def fingerprint(self) -> str:
        """A str that two sets of predictions share if they are the same."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.labels, self.scores, self.weights):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def subset(self, keep: np.ndarray) -> Predictions:
        """The predictions of the examples where the bool array `keep` is true."""
        return Predictions(
            self.task, self.labels[keep], self.scores[keep], self.weights[keep], self.class_names
        )
