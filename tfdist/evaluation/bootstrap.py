"""How far a metric might be from its value on other data of the same kind.

Percentile intervals of the bootstrap: examples are drawn with replacement, as many as there
are, and every metric is calculated anew; its interval holds the middle of its values. It
speaks of the choice of test examples alone, not of another training. The calibration error
is a sum of absolute values, which resampling raises: its interval lies too high, and need not
hold its value.

Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 15.
"""

import numpy as np

from tfdist.arguments import integer

# Of a block of resamples; blocks that fit into the cache are quickest.
_BLOCK = 1_000_000
# Areas of more examples * columns * resamples than this take minutes.
AREA_LIMIT = 5_000_000_000
WITHOUT_AREAS = (
    "The areas have no intervals: with so many examples and classes they would take minutes. "
    "Fewer resamples (`bootstrap=100`) bring them."
)


def check_resampling(confidence, count):
    """Raises ValueError unless both are what an interval is made of."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r}: expected a number between 0 and 1.")
    integer("bootstrap", count, least=0, meaning="the number of resamples; 0 for none")


def affords_areas(predictions, count):
    """Whether intervals of the areas take seconds rather than minutes."""
    return len(predictions) * predictions.indicators.shape[1] * count <= AREA_LIMIT


def resamples(weights, count, seed):
    """Draws examples with replacement, each set in blocks of columns.

    Args:
        weights: float64 (examples,), carried along by each example.
        count: int, the number of resamples.
        seed: int.

    Yields:
        float64 (examples, up to some hundred): the weight of each example in a resample,
        times how often it was drawn.
    """
    rng = np.random.default_rng(seed)
    examples = len(weights)
    block = max(1, min(count, _BLOCK // examples))
    for start in range(0, count, block):
        drawn = np.empty((min(block, count - start), examples))
        for row in drawn:
            row[:] = np.bincount(rng.integers(0, examples, examples), minlength=examples)
        yield np.ascontiguousarray(drawn.T) * weights[:, None]


def draw(metrics, weights, count, seed):
    """The values of all metrics on each resample.

    Args:
        metrics: a list of `Metrics` of the same examples; all see the same resamples.
        weights: float64 (examples,).
        count: int, the number of resamples.
        seed: int.

    Returns:
        A list of dicts of a metric's name to float64 (count,), one for each of `metrics`;
        NaN where a resample lacks the class that it would take.
    """
    found = [{} for _ in metrics]
    for block in resamples(weights, count, seed):
        for values, one in zip(found, metrics):
            for name, some in one(block)[0].items():
                values.setdefault(name, []).append(some)
    return [{name: np.concatenate(v) for name, v in values.items()} for values in found]


def interval(values, confidence):
    """The percentile interval.

    Args:
        values: float64 (resamples,); those that are NaN are left out.
        confidence: float between 0 and 1.

    Returns:
        `(low, high)`; NaN if no value is left.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def p_value(differences):
    """Two-sided: twice the share of resamples on the rarer side of 0.

    Args:
        differences: float64 (resamples,); those that are NaN are left out.

    Returns:
        float in (0, 1]; NaN if no value is left.
    """
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return np.nan
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))
