import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from keras.src.saving import saving_lib
from upstream import original, require, require_parameters, two_cpus

import tfdist
from tfdist import compat

WAYS = {
    "save": lambda model, path: model.save(path / "m.keras"),
    "save_weights": lambda model, path: model.save_weights(path / "m.weights.h5"),
    "export": lambda model, path: model.export(path / "exported", verbose=False),
    "keras.saving.save_model": lambda model, path: keras.saving.save_model(model, path / "m.keras"),
    "keras.models.save_model": lambda model, path: keras.models.save_model(
        model, filepath=path / "m.keras"
    ),
    "keras.saving.save_weights": lambda model, path: keras.saving.save_weights(
        model, path / "m.weights.h5"
    ),
    "h5": lambda model, path: model.save(path / "m.h5"),
    # What a program holds that bound the name before its first strategy.
    "save_model, bound early": lambda model, path: original(keras.saving.save_model)(
        model, path / "m.keras"
    ),
    "save_model to a folder, bound early": lambda model, path: original(keras.saving.save_model)(
        model, path / "m", zipped=False
    ),
    "save_model to h5, bound early": lambda model, path: original(keras.models.save_model)(
        model, path / "m.h5", include_optimizer=False
    ),
    "save_weights, bound early": lambda model, path: original(keras.saving.save_weights)(
        model, path / "m.weights.h5"
    ),
    "save_weights in shards, bound early": lambda model, path: original(keras.saving.save_weights)(
        model, path / "m.weights.json", max_shard_size=1
    ),
}
ways = pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)


def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    for method in ("save", "save_weights", "export"):
        require(keras.Model, method)
        require_parameters(getattr(keras.Model, method), "self", "filepath")
    for module in (keras.saving, keras.models):
        require_parameters(module.save_model, "model", "filepath")
    require_parameters(keras.saving.save_weights, "model", "filepath")
    require_parameters(saving_lib.save_model, "model", "filepath")
    require_parameters(saving_lib.save_weights_only, "model", "filepath")
    require_parameters(legacy_h5_format.save_model_to_hdf5, "model", "filepath")


@ways
def test_a_worker_that_is_not_the_chief_writes_nothing(write, tmp_path, monkeypatch):
    strategy = two_cpus()
    with strategy.scope():
        mine = model()
    monkeypatch.setattr(tfdist.MirroredStrategy, "is_chief", property(lambda self: False))
    assert write(mine, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@ways
def test_the_chief_writes(write, tmp_path):
    strategy = two_cpus()
    with strategy.scope():
        mine = model()
    write(mine, tmp_path)
    assert list(tmp_path.iterdir())


ASKING = {
    "save": lambda model, path: model.save(path, overwrite=False),
    "keras.saving.save_model": lambda model, path: keras.saving.save_model(
        model, path, overwrite=False
    ),
    "keras.saving.save_weights": lambda model, path: keras.saving.save_weights(
        model, path, overwrite=False
    ),
}


@pytest.mark.parametrize("write", ASKING.values(), ids=ASKING)
def test_a_worker_that_is_not_the_chief_asks_nothing(write, tmp_path, monkeypatch):
    strategy = two_cpus()
    with strategy.scope():
        mine = model()
    monkeypatch.setattr(tfdist.MirroredStrategy, "is_chief", property(lambda self: False))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    for name in ("m.keras", "m.weights.h5"):
        (tmp_path / name).write_text("there already")
        write(mine, tmp_path / name)
        assert (tmp_path / name).read_text() == "there already"


@ways
def test_a_model_without_a_strategy_is_written_by_any_worker(write, tmp_path, monkeypatch):
    monkeypatch.setattr(tfdist.MirroredStrategy, "is_chief", property(lambda self: False))
    write(model(), tmp_path)
    assert list(tmp_path.iterdir())


def test_what_the_chief_writes_is_a_plain_keras_model(tmp_path):
    strategy = two_cpus()
    with strategy.scope():
        mine = model()
    mine.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    x = np.ones((3, 2))
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model_output(mine, x))
    for a, b in zip(loaded.weights, mine.weights):
        np.testing.assert_array_equal(a, b)


def model_output(mine, x):
    return mine.predict(x, verbose=0)
