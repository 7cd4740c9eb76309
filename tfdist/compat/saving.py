"""Models are written by the chief alone.

Needs: `Model.save`, `.save_weights`, `.export`, `keras.saving.save_model`, `.save_weights` and
`keras.models.save_model` (public, replaced); `saving_lib.save_model`, `.save_weights_only` and
`legacy_h5_format.save_model_to_hdf5`, which all of those but `export` write through.
Why: all workers run the same script, `model.save(path)` included, and several
writers of one path corrupt it. On a worker that is not the chief these do
nothing; `tfdist.barrier` waits for the chief. A strategy whose workers hold pieces of
variables says otherwise in `strategy.saving(model)`. A program that has bound a public name before
the first strategy (`from keras.saving import save_model`) keeps Keras' own function; that
looks its writers up in their modules. The public names are replaced as well because with
`overwrite=False` Keras asks on the terminal before it comes to the writers.
"""

import contextlib

import keras
from keras.src.legacy.saving import legacy_h5_format
from keras.src.saving import saving_lib

from tfdist.compat.replacing import replace
from tfdist.compat.trainer import strategy_of

_ELSEWHERE = ("a model of a tfdist strategy, on a worker that is not the chief", "writes nothing")


def install():
    for method in ("save", "save_weights", "export"):
        replace(keras.Model, method, _on_the_chief, *_ELSEWHERE)
    for module in (keras.saving, keras.models):
        replace(module, "save_model", _on_the_chief, *_ELSEWHERE)
    replace(keras.saving, "save_weights", _on_the_chief, *_ELSEWHERE)
    for writer in ("save_model", "save_weights_only"):
        replace(saving_lib, writer, _on_the_chief, *_ELSEWHERE)
    replace(legacy_h5_format, "save_model_to_hdf5", _on_the_chief, *_ELSEWHERE)


def _on_the_chief(original):
    def write(model, *args, **kwargs):
        strategy = strategy_of(model)
        # `Model.save` writes through `save_model`, that through the writer: one saving.
        if strategy is None or "_tfdist_is_saved" in vars(model):
            return original(model, *args, **kwargs)
        with strategy.saving(model) as writes, _noting(model):
            return original(model, *args, **kwargs) if writes else None

    return write


@contextlib.contextmanager
def _noting(model):
    vars(model)["_tfdist_is_saved"] = True
    try:
        yield
    finally:
        del vars(model)["_tfdist_is_saved"]
