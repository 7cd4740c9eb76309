"""Models are written by the chief alone.

Needs: `Model.save`, `.save_weights`, `.export`, `keras.saving.save_model` and
`keras.models.save_model` (public, replaced).
Why: all workers run the same script, `model.save(path)` included, and several
writers of one path corrupt it. On a worker that is not the chief these do
nothing; `tfdist.barrier` waits for the chief.
"""

import keras

from tfdist.compat.install import replace
from tfdist.compat.trainer import strategy_of

_ELSEWHERE = ("a model of a tfdist strategy, on a worker that is not the chief", "writes nothing")


def install():
    for method in ("save", "save_weights", "export"):
        replace(keras.Model, method, _on_the_chief, *_ELSEWHERE)
    for module in (keras.saving, keras.models):
        replace(module, "save_model", _on_the_chief, *_ELSEWHERE)


def _on_the_chief(original):
    def write(model, *args, **kwargs):
        strategy = strategy_of(model)
        if strategy is not None and not strategy.is_chief:
            return None
        return original(model, *args, **kwargs)

    return write
