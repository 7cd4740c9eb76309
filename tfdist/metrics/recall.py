"""Of what there is, how much was found."""

import keras

from tfdist.metrics import averaged
from tfdist.metrics.averaged import AveragedMetric


@keras.saving.register_keras_serializable(package="tfdist")
class Recall(AveragedMetric):
    """Recall: true positives to all that is positive.

    Equal to scikit-learn's `recall_score` on all examples of an epoch, whatever the number of
    replicas. Where it would divide by zero it is 0; classes that occur neither in labels nor
    in predictions are left out of the macro average.

    Example:

    >>> import tfdist
    >>> metric = tfdist.metrics.Recall()
    >>> metric.update_state([1, 1, 0, 1], [0.9, 0.2, 0.8, 0.7])
    >>> round(float(metric.result()), 4)
    0.6667

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        average: `"binary"`: that of class 1 of two; `"macro"`: the mean over classes;
            `"weighted"`: by the classes' weights; `"micro"`: of all counts together. None:
            `"binary"` for scores of one column, `"macro"` for more.
        class_id: int; the value of this class instead of an average.
        threshold: float; from which probability on a label is predicted, for scores of one
            column and with `multi_label`. Otherwise the class of the highest score is.
        from_logits: bool; whether scores are logits.
        multi_label: bool; whether labels are multi-hot.
        name: str.
        dtype: unused; the state is float64.

    Raises:
        ValueError: arguments that contradict each other; shapes that do not fit; when the
            result is read: labels out of range, scores outside of 0 to 1 without `from_logits`.

    Reference:

    - van Rijsbergen, 1979, "Information Retrieval".
    """

    ratio = staticmethod(averaged.recall)

    def __init__(
        self,
        num_classes=None,
        average=None,
        class_id=None,
        threshold=0.5,
        from_logits=False,
        multi_label=False,
        name="recall",
        dtype=None,
    ):
        super().__init__(
            num_classes, average, class_id, threshold, from_logits, multi_label, name, dtype
        )
