import csv
import json
import warnings

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

import tfdist
from tfdist import tf_config

X, Y = np.ones((8, 2)), np.ones((8, 1))
METHODS = {
    "fit": lambda model, **options: model.fit(X, Y, verbose=0, **options),
    "evaluate": lambda model, **options: model.evaluate(X, Y, verbose=0, **options),
    "predict": lambda model, **options: model.predict(X, verbose=0, **options),
}
methods = pytest.mark.parametrize("method", METHODS)


def model(compiled=True, metrics=None):
    new = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
    if compiled:
        new.compile("sgd", "mse", metrics=metrics)
    return new


# -- what was made outside of the scope -----------------------------------------


@methods
def test_a_model_made_outside_and_used_inside(method):
    outside = model()
    with two_cpus().scope():
        with pytest.raises(ValueError, match="created outside the strategy's scope") as error:
            METHODS[method](outside)
    assert f"`{method}` was called inside the scope of a MirroredStrategy" in str(error.value)
    assert "Create and compile the model inside `with strategy.scope():`" in str(error.value)


def test_on_a_worker_of_a_cluster_it_trains_alone_and_says_so_once(monkeypatch):
    cluster = tf_config.Cluster(("a:1", "b:1"), 1, "worker", (), False)
    monkeypatch.setattr("tfdist.strategies.multi_worker._joined", cluster)
    outside = model()
    weights = outside.get_weights()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        METHODS["fit"](outside)
        METHODS["evaluate"](outside)
        METHODS["predict"](outside)
    (one,) = caught
    assert "on this worker alone (worker 1 of 2)" in str(one.message)
    assert one.filename == __file__  # the line of the user's `fit`
    assert not np.array_equal(outside.get_weights()[0], weights[0])


@methods
def test_a_layer_made_outside(method):
    dense = keras.layers.Dense(1, name="strange")
    dense.build((None, 2))
    with two_cpus().scope():
        inside = keras.Sequential([keras.Input((2,)), dense])
        inside.compile("sgd", "mse")
    with pytest.raises(ValueError, match="'strange/kernel' was created outside") as error:
        METHODS[method](inside)
    assert f"`{method}`" in str(error.value)
    assert "load all weights inside `with strategy.scope():`" in str(error.value)


@methods
def test_compiled_outside(method):
    with two_cpus().scope():
        inside = model(compiled=False)
    inside.compile("sgd", "mse", metrics=["mae"])
    with pytest.raises(ValueError, match=r"the optimizer 'sgd.*' was created outside") as error:
        METHODS[method](inside)
    assert "Call `model.compile(...)`" in str(error.value)


def test_an_optimizer_made_outside():
    optimizer = keras.optimizers.Adam(name="outer")
    inner = keras.optimizers.Adam(name="inner")
    strategy = two_cpus()
    with strategy.scope():
        first, second = model(compiled=False), model(compiled=False)
        first.compile(optimizer, "mse")
        second.compile(keras.optimizers.LossScaleOptimizer(inner), "mse")
    for mine, name in ((first, "outer"), (second, "inner")):
        with pytest.raises(ValueError, match=f"the optimizer '{name}' was created outside"):
            METHODS["fit"](mine)


def test_a_metric_made_outside():
    metric = keras.metrics.MeanAbsoluteError(name="far")
    with two_cpus().scope():
        inside = model(metrics=[metric])
    for method in ("fit", "evaluate"):
        with pytest.raises(ValueError, match="'far' was created outside the scope"):
            METHODS[method](inside)


def test_another_strategys_model_is_outside():
    first, second = two_cpus(), two_cpus()
    with first.scope():
        mine = model(compiled=False)
    with second.scope():
        mine.compile("sgd", "mse")
    with pytest.raises(ValueError, match="was created outside the scope"):
        METHODS["fit"](mine)


@methods
def test_what_was_made_inside_may_be_used_anywhere(method):
    strategy = two_cpus()
    with strategy.scope():
        inside = model(metrics=["mae"])
    METHODS[method](inside)
    with strategy.scope():
        METHODS[method](inside)
    METHODS[method](model())  # no strategy at all


# -- strategies whose steps are Keras' own -----------------------------------------


@pytest.mark.parametrize("make", [tfdist.callbacks.SyncSGD, tfdist.callbacks.Checkpoint])
@pytest.mark.parametrize("tpu", [tfdist.TPUStrategy, tf.distribute.TPUStrategy])
def test_on_tpus_nobody_is_sent_to_another_tpu_strategy(make, tpu, tmp_path):
    callback = make(tmp_path) if make is tfdist.callbacks.Checkpoint else make()
    mine = model()
    mine._distribute_strategy = object.__new__(tpu)  # there is no TPU here
    with pytest.raises(ValueError, match=f"`{make.__name__}` works in the training") as error:
        mine.fit(X, Y, callbacks=[callback], verbose=0)
    assert "under a TPUStrategy, where Keras trains by its own. Leave it out" in str(error.value)
    assert "tfdist.TPUStrategy" not in str(error.value)


@pytest.mark.parametrize(
    "stock, instead",
    [
        ("MirroredStrategy", "Use `tfdist.MirroredStrategy`, which takes the same arg"),
        ("MultiWorkerMirroredStrategy", "Use `tfdist.MultiWorkerMirroredStrategy`, which"),
        ("OneDeviceStrategy", "Use one of them."),
    ],
)
def test_a_strategy_of_tf_distribute_is_told_of_one_that_exists(stock, instead):
    callback, mine = tfdist.callbacks.SyncSGD(), model()
    mine._distribute_strategy = object.__new__(getattr(tf.distribute, stock))
    with pytest.raises(ValueError, match=f"made under tf[.]distribute's {stock}[.] ") as error:
        mine.fit(X, Y, callbacks=[callback], verbose=0)
    assert instead in str(error.value)


# -- data without a batch ---------------------------------------------------------


def nothing():
    yield from ()


def unknown_and_empty():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).filter(lambda x, y: False)


OURS = r"The dataset is empty: received 0 batches(.|\n)*Check the arrays' first dimension, or the f"
EMPTY = {
    "a dataset": (lambda: tf.data.Dataset.from_tensor_slices((X[:0], Y[:0])).batch(4), OURS),
    "a dataset of unknown length": (unknown_and_empty, OURS),
    "a generator": (nothing, "the generator must yield at least one batch"),  # Keras' own
}


@pytest.mark.parametrize("data, message", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_empty_data(method, data, message):
    with two_cpus().scope():
        mine = model()
    # Keras warns that it cannot shuffle such data, which it would by default.
    options = {"shuffle": False} if method == "fit" else {}
    with pytest.raises(ValueError, match=message):
        getattr(mine, method)(data(), verbose=0, **options)


@methods
def test_empty_arrays(method):
    with two_cpus().scope():
        mine = model()
    arguments = (X[:0],) if method == "predict" else (X[:0], Y[:0])
    with pytest.raises(ValueError, match="empty: received 0 batches"):
        getattr(mine, method)(*arguments, verbose=0)


# -- what workers compare --------------------------------------------------------------


def test_what_keras_tuner_tries_is_compared(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        tfdist.MirroredStrategy, "begin", lambda self, model, facts: seen.append(facts)
    )

    def build(hyperparameters):
        rate = hyperparameters.Float("rate", 0.1, 0.9)
        new = keras.Sequential(
            [keras.Input((2,)), keras.layers.Dropout(rate), keras.layers.Dense(1)]
        )
        new.compile("sgd", "mse")
        return new

    tuner = keras_tuner.RandomSearch(
        build,
        "loss",
        max_trials=1,
        seed=3,
        directory=str(tmp_path),
        distribution_strategy=two_cpus(),
    )
    tuner.search(X, Y, verbose=0)
    (trial,) = tuner.oracle.trials.values()
    found = [json.loads(facts[name]) for facts in seen for name in facts if "KerasTuner" in name]
    assert found == [trial.hyperparameters.values]
    METHODS["fit"](tuner.get_best_models()[0])
    assert not any("KerasTuner" in name for name in seen[-1])


# -- workers that are not the chief -------------------------------------------------


@pytest.fixture
def not_the_chief(monkeypatch):
    monkeypatch.setattr(tfdist.MirroredStrategy, "is_chief", property(lambda self: False))


class Seen(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


def callbacks(directory):
    return [
        keras.callbacks.TensorBoard(directory / "board"),
        keras.callbacks.CSVLogger(directory / "log.csv"),
        keras.callbacks.ModelCheckpoint(directory / "m.keras"),
        keras.callbacks.BackupAndRestore(directory / "backup", delete_checkpoint=False),
        Seen(),
    ]


def test_a_worker_that_is_not_the_chief_writes_nothing(not_the_chief, tmp_path, capsys):
    with two_cpus().scope():
        mine = model()
    given = callbacks(tmp_path)
    mine.fit(X, Y, epochs=2, callbacks=given, verbose=2)
    assert capsys.readouterr().out == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert given[-1].epochs == 2
    assert len(given) == 5  # the user's list is the user's


def test_the_users_callbacks_are_as_before(monkeypatch, tmp_path):
    with two_cpus().scope():
        mine, own = model(), model()
    given = callbacks(tmp_path)
    before = [dict(vars(callback)) for callback in given[1:-1:2]]  # CSVLogger, BackupAndRestore
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(tfdist.MirroredStrategy, "is_chief", property(lambda self: False))
        mine.fit(X, Y, epochs=2, callbacks=given, verbose=0)
    assert [dict(vars(callback)) for callback in given[1:-1:2]] == before
    # The same objects then write where they should: in another program's chief, or later.
    own.fit(X, Y, epochs=2, callbacks=given, verbose=0)
    assert given[1].filename == str(tmp_path / "log.csv")
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss")
    assert [path for path in (tmp_path / "backup").iterdir() if path.is_file()]


@methods
def test_a_worker_that_is_not_the_chief_shows_no_progress(method, not_the_chief, capsys):
    with two_cpus().scope():
        mine = model()
    getattr(mine, method)(*((X,) if method == "predict" else (X, Y)), verbose=1)
    assert capsys.readouterr().out == ""


def test_one_callback_need_not_be_in_a_list(not_the_chief, tmp_path):
    with two_cpus().scope():
        mine = model()
    seen = Seen()
    mine.fit(X, Y, callbacks=seen, verbose=0)
    assert seen.epochs == 1
    mine.fit(X, Y, callbacks=keras.callbacks.TensorBoard(tmp_path), verbose=0)
    assert list(tmp_path.iterdir()) == []


class Orbax(keras.callbacks.OrbaxCheckpoint):
    """Without the package that it writes by: what it is told is what matters here."""

    def __init__(self):
        keras.callbacks.Callback.__init__(self)
        self.saved = []

    def on_epoch_end(self, epoch, logs=None):
        self.saved.append(epoch)

    on_train_batch_end = on_train_end = lambda self, *args, **kwargs: None


@pytest.mark.parametrize("is_chief", [True, False])
def test_a_checkpoint_of_orbax_is_the_chiefs_alone(is_chief, monkeypatch):
    monkeypatch.setattr(tfdist.MirroredStrategy, "is_chief", property(lambda self: is_chief))
    with two_cpus().scope():
        mine = model()
    orbax = Orbax()
    mine.fit(X, Y, epochs=2, callbacks=[orbax], verbose=0)
    assert orbax.saved == ([0, 1] if is_chief else [])


def test_the_chief_writes_and_shows_progress(tmp_path, capsys):
    with two_cpus().scope():
        mine = model()
    mine.fit(X, Y, epochs=2, callbacks=callbacks(tmp_path), verbose=2)
    assert "Epoch 2/2" in capsys.readouterr().out
    assert list((tmp_path / "board").rglob("events.*")) and (tmp_path / "m.keras").is_file()
    with open(tmp_path / "log.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
