"""What a model was compiled with, as it was given.

Needs: `Model._compile_loss` with its `_user_loss` and `_user_loss_weights`, and
`Model._compile_metrics` with its `_user_metrics` and `_user_weighted_metrics`.
Why: `get_compile_config` is made for files, and does not give back a function of the user's own.
"""

import keras


def compiled_with(model):
    """The loss and the metrics of a compiled model, as arguments of another one's `compile`.

    Metrics are new ones, made in the scope that is in force: two models share no state.

    Args:
        model: a compiled Keras model.
    """
    loss, metrics = model._compile_loss, model._compile_metrics
    return {
        "loss": getattr(loss, "_user_loss", None),
        "loss_weights": getattr(loss, "_user_loss_weights", None),
        "metrics": _new(getattr(metrics, "_user_metrics", None)),
        "weighted_metrics": _new(getattr(metrics, "_user_weighted_metrics", None)),
    }


def _new(metrics):
    def new(one):
        is_metric = isinstance(one, keras.metrics.Metric)
        return type(one).from_config(one.get_config()) if is_metric else one

    return None if metrics is None else keras.tree.map_structure(new, metrics)
