"""Two real workers: what they agree on, and what each may do alone."""

import csv
import pathlib
import sys

import cloudpickle
import keras
import numpy as np
import pytest
import slowness
from sklearn import metrics as sklearn_metrics

import tfdist

cloudpickle.register_pickle_by_value(sys.modules[__name__])
EXAMPLES, BATCH = 53, 8  # seven steps an epoch, the last with five examples


def _data():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(EXAMPLES, 4)).astype("float32") * [1, 2, 3, 4] + 1
    return x, rng.integers(0, 3, size=EXAMPLES)


def _classifier():
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dropout(0.3, seed=1),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def _session(directory):
    """Runs on each worker; returns what the tests look at."""
    import warnings

    import keras
    import numpy as np
    import tensorflow as tf

    import tfdist

    directory = pathlib.Path(directory)
    strategy = tfdist.MultiWorkerMirroredStrategy()
    found = {
        "who": (tfdist.rank(), tfdist.world_size(), tfdist.is_chief()),
        "namesake": isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy),
    }
    x, y = _data()

    class Seen(keras.metrics.Metric):
        """How often each example was seen; `y_true` holds example numbers."""

        def __init__(self):
            super().__init__(name="seen")
            self.counts = self.add_weight(shape=(EXAMPLES,), initializer="zeros", name="counts")

        def update_state(self, y_true, y_pred, sample_weight=None):
            numbers = tf.cast(tf.reshape(y_true, [-1]), tf.int32)
            self.counts.assign(
                self.counts + tf.math.bincount(numbers, minlength=EXAMPLES, dtype="float32")
            )

        def result(self):
            return keras.ops.max(self.counts)

    class AloneOnTheChief(keras.callbacks.Callback):
        """Reads a metric and saves, which must wait for nobody."""

        losses = []

        def on_train_batch_end(self, batch, logs=None):
            if tfdist.is_chief():
                self.losses.append((float(self.model.metrics[0].result()), float(logs["loss"])))
                self.model.save_weights(directory / "alone.weights.h5")

    def classifier():
        with strategy.scope():
            return _classifier()

    # Every example once an epoch, shuffled, without a seed set by anybody.
    with strategy.scope():
        counter = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        counter.compile("sgd", "mse", metrics=[Seen()])
    numbers = np.arange(EXAMPLES, dtype="float32")[:, None]
    history = counter.fit(x * 0, numbers, batch_size=BATCH, shuffle=True, verbose=0)
    metric = counter.metrics[1].metrics[0]
    found["seen"] = (history.history["seen"], metric.counts.numpy())

    # So they are where the pipeline's order depends on timing.
    def slow_for_some(number):
        size = tf.where(number % 5 == 0, 500, 2)
        return number + tf.cast(0.0 * tf.reduce_sum(tf.ones((size, size))), tf.int64)

    def as_they_come(begin):
        part = tf.data.Dataset.range(begin, tf.minimum(begin + 10, EXAMPLES))
        return part.map(slow_for_some, num_parallel_calls=4, deterministic=False)

    options = tf.data.Options()
    options.deterministic = False
    data = tf.data.Dataset.range(0, EXAMPLES, 10).with_options(options)
    data = data.interleave(as_they_come, cycle_length=3, num_parallel_calls=3)
    data = data.map(lambda number: (tf.zeros([4]), tf.cast(number, tf.float32)[None]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = counter.fit(data.batch(BATCH), epochs=4, shuffle=False, verbose=0)
    found["seen in one order"] = (history.history["seen"], metric.counts.numpy())
    told = [str(one.message) for one in caught]
    found["told of the order"] = sum("depends on timing" in one for one in told)

    # A first save: nothing was trained yet, the other worker is not there.
    model = classifier()
    if tfdist.is_chief():
        model.save(directory / "untrained.keras")

    alone = AloneOnTheChief()
    writers = [
        keras.callbacks.CSVLogger(directory / "log.csv"),
        keras.callbacks.ModelCheckpoint(directory / "checkpoint-{epoch}.keras"),
        keras.callbacks.TensorBoard(directory / "board"),
    ]
    history = model.fit(
        x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0,
        validation_data=(x, y), callbacks=[alone, *writers],
    )  # fmt: skip
    found["history"] = history.history
    found["alone"] = list(alone.losses)
    model.save(directory / "model.keras")
    tfdist.barrier("saved", timeout=60)
    found["weights"] = [w.numpy() for w in model.weights]
    found["evaluate"] = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    found["predict"] = model.predict(x, batch_size=BATCH, verbose=0)
    loaded = keras.saving.load_model(directory / "model.keras")
    found["loaded"] = loaded.predict(x, verbose=0)

    # The same again: dropout is reproducible, and differs between replicas. In the
    # scope, where saving makes variables, on the chief alone.
    again = classifier()
    alone.losses = []
    with strategy.scope():
        again.fit(
            x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0,
            validation_data=(x, y), callbacks=[alone],
        )  # fmt: skip
    found["again"] = [w.numpy() for w in again.weights]

    @tf.function
    def mask():
        return strategy.run(
            lambda: model.layers[1](tf.ones((1, 4)) * tf.ones((16, 1)), training=True)
        )

    found["mask"] = mask().numpy()

    # One batch at a time, and a custom loop.
    found["on_batch"] = again.test_on_batch(x[:8], y[:8], return_dict=True)
    found["predict_on_batch"] = again.predict_on_batch(x[:3])
    with strategy.scope():
        total = keras.metrics.Sum()
    strategy.run(lambda: total.update_state(tf.cast(tfdist.rank() + 1, tf.float32)))
    found["custom loop metric"] = float(total.result())

    # Another strategy in the same process joins the same cluster.
    with tfdist.MultiWorkerMirroredStrategy().scope():
        wider = keras.Sequential([keras.Input((4,)), keras.layers.Dense(7), keras.layers.Dense(1)])
        wider.compile("sgd", "mse")
    found["second strategy"] = wider.fit(x, y, batch_size=BATCH, verbose=0).history["loss"]
    found["optimizer steps"] = int(model.optimizer.iterations)

    found["pieces"] = _session_of_pieces(directory, x, y)

    # Two workers that hold one replica (here: each all of it) see the same examples.
    from tfdist.strategies.place import Mesh, Place

    class OfOneReplica(tfdist.MultiWorkerMirroredStrategy):
        def _find_place(self):
            return Place(Mesh(model=self.num_workers), self.worker_index)

    strategy = OfOneReplica()
    found["replicas"] = (strategy.num_local_replicas, strategy.num_replicas_in_sync)
    found["one replica"] = _fit_and_evaluate(classifier(), x, y)
    return found


def _session_of_pieces(directory, x, y):
    """A model with a table of which each worker holds two rows: trained, resumed and saved."""
    import contextlib

    from tfdist.compat.layout import Piece, mark_piece

    class OfPieces(tfdist.MultiWorkerMirroredStrategy):
        calls = []

        @contextlib.contextmanager
        def saving(self, model):
            mine = model.layers[0].table.numpy().tolist()
            rows = self.exchange("the pieces of a table", {"rows": mine})
            self.calls.append([row for of in rows for row in of["rows"]])
            yield self.is_chief

    class Table(keras.layers.Layer):
        def build(self, shape):
            value = keras.initializers.Constant(1.0 + tfdist.rank())
            self.table = self.add_weight(shape=(2, 3), initializer=value, trainable=False)
            mark_piece(self.table, Piece(whole=(4, 3), begin=2 * tfdist.rank()))

        def call(self, x):
            return x

    strategy = OfPieces()

    def trained(epochs):
        with strategy.scope():
            keras.utils.set_random_seed(5)
            model = keras.Sequential([keras.Input((4,)), Table(), keras.layers.Dense(3)])
            model.compile("sgd", "mse")
        keep = tfdist.callbacks.Checkpoint(directory / f"pieces-{tfdist.rank()}")
        targets = keras.utils.to_categorical(y, 3)
        model.fit(x, targets, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[keep])
        return model

    model, found = trained(1), []
    found.append(model.layers[0].table.numpy())
    model.layers[0].table.assign(model.layers[0].table + 10.0)
    model.fit(x, keras.utils.to_categorical(y, 3), batch_size=BATCH, verbose=0)
    found.append(model.layers[0].table.numpy())
    found.append(trained(2).layers[0].table.numpy())  # the first epoch comes from the file
    model.save_weights(directory / "pieces.weights.h5")
    return found, strategy.calls


def _fit_and_evaluate(model, x, y):
    history = model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    scores = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    predictions = model.predict(x, batch_size=BATCH, verbose=0)
    weights = [w.numpy() for w in model.weights]
    return history.history, scores, predictions, weights


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    directory = tmp_path_factory.mktemp("session")
    return tfdist.run(
        _session, workers=2, args=(str(directory),), timeout=slowness.seconds(240)
    ), directory


def test_each_worker_knows_who_it_is(session):
    (chief, other), _ = session
    assert chief["who"] == (0, 2, True)
    assert other["who"] == (1, 2, False)
    assert chief["namesake"]


def test_every_example_is_seen_once_an_epoch(session):
    for worker in session[0]:
        most, counts = worker["seen"]
        assert most == [1.0]
        np.testing.assert_array_equal(counts, np.ones(EXAMPLES))


def test_every_example_is_seen_once_an_epoch_whatever_the_order(session):
    for worker in session[0]:
        most, counts = worker["seen in one order"]
        assert most == [1.0] * 4
        np.testing.assert_array_equal(counts, np.ones(EXAMPLES))
    assert [worker["told of the order"] for worker in session[0]] == [1, 0]


def test_workers_end_with_the_same_model_and_history(session):
    (chief, other), _ = session
    for a, b in zip(chief["weights"], other["weights"]):
        assert a.tobytes() == b.tobytes()
    assert chief["history"] == other["history"]
    assert chief["evaluate"] == other["evaluate"]
    assert chief["predict"].tobytes() == other["predict"].tobytes()


def test_moving_statistics_are_the_mean_over_examples_of_each_workers_batch(session):
    x, _ = _data()
    mean, variance = np.zeros(4), np.ones(4)
    for _ in range(2):
        for begin in range(0, EXAMPLES, BATCH):
            batch = x[begin : begin + BATCH]
            first = -(-len(batch) // 2)
            parts = [batch[:first], batch[first:]]
            weights = [len(part) / len(batch) for part in parts]
            mean = sum(w * (0.9 * mean + 0.1 * p.mean(0)) for w, p in zip(weights, parts))
            variance = sum(w * (0.9 * variance + 0.1 * p.var(0)) for w, p in zip(weights, parts))
    weights = session[0][0]["weights"]
    np.testing.assert_allclose(weights[2], mean, rtol=1e-5)
    np.testing.assert_allclose(weights[3], variance, rtol=1e-5)


def test_metrics_are_those_of_the_gathered_predictions(session):
    _, labels = _data()
    for worker in session[0]:
        logits = worker["predict"]
        assert logits.shape == (EXAMPLES, 3)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        accuracy = sklearn_metrics.accuracy_score(labels, logits.argmax(axis=1))
        loss = sklearn_metrics.log_loss(labels, probabilities)
        assert worker["evaluate"]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
        assert worker["evaluate"]["loss"] == pytest.approx(loss, abs=1e-5)
        assert worker["history"]["val_accuracy"][-1] == pytest.approx(accuracy, abs=1e-6)


def test_the_chief_reads_metrics_and_saves_alone(session):
    (chief, other), directory = session
    assert len(chief["alone"]) == 14 and other["alone"] == []
    for read, logged in chief["alone"]:
        assert read == pytest.approx(logged, rel=1e-6)
    assert (directory / "alone.weights.h5").exists()
    assert (directory / "untrained.keras").exists()


def test_a_saved_model_is_whole_and_the_same_everywhere(session):
    workers, directory = session
    x, _ = _data()
    here = keras.saving.load_model(directory / "model.keras").predict(x, verbose=0)
    for worker in workers:
        np.testing.assert_allclose(worker["loaded"], here, atol=1e-6)
        np.testing.assert_allclose(worker["predict"], here, atol=1e-5)


def test_callbacks_write_once(session):
    (chief, _), directory = session
    rows = list(csv.DictReader((directory / "log.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == pytest.approx(chief["history"]["loss"])
    assert {path.name for path in directory.glob("checkpoint-*")} == {
        "checkpoint-1.keras",
        "checkpoint-2.keras",
    }
    events = list((directory / "board" / "train").glob("events*"))
    assert len(events) == 1


def test_dropout_is_reproducible_and_differs_between_replicas(session):
    (chief, other), _ = session
    for a, b in zip(chief["weights"], chief["again"]):
        assert a.tobytes() == b.tobytes()
    assert not np.array_equal(chief["mask"], other["mask"])


def test_a_second_strategy_in_the_same_process(session):
    (chief, other), _ = session
    assert chief["second strategy"] == other["second strategy"]
    assert np.isfinite(chief["second strategy"]).all()


def test_workers_of_one_replica_train_as_one_process(session):
    x, y = _data()
    history, scores, predictions, weights = _fit_and_evaluate(_classifier(), x, y)
    for worker in session[0]:
        assert worker["replicas"] == (1, 1)
        its_history, its_scores, its_predictions, its_weights = worker["one replica"]
        assert min(its_history["loss"]) > 0 and min(its_history["accuracy"]) > 0
        for name, values in history.items():
            np.testing.assert_allclose(its_history[name], values, rtol=1e-5)
        assert its_scores == pytest.approx(scores, rel=1e-5)
        np.testing.assert_allclose(its_predictions, predictions, rtol=1e-4, atol=1e-5)
        for mine, plain in zip(its_weights, weights, strict=True):
            np.testing.assert_allclose(mine, plain, rtol=1e-4, atol=1e-6)


def test_a_piece_of_a_variable_is_its_workers(session):
    workers, directory = session
    for rank, worker in enumerate(workers):
        (first, assigned, resumed), saved = worker["pieces"]
        np.testing.assert_array_equal(first, np.full((2, 3), 1.0 + rank))
        np.testing.assert_array_equal(assigned, np.full((2, 3), 11.0 + rank))
        np.testing.assert_array_equal(resumed, np.full((2, 3), 1.0 + rank))
        # Saving is one call of all workers, where the whole comes together.
        whole = [[11.0] * 3] * 2 + [[12.0] * 3] * 2
        assert saved == [whole]
    assert (directory / "pieces.weights.h5").exists()


def test_single_batches_and_custom_loops(session):
    for worker in session[0]:
        assert set(worker["on_batch"]) == {"loss", "accuracy"}
        assert worker["predict_on_batch"].shape[1:] == (3,)
        assert worker["custom loop metric"] == 3.0
        assert worker["optimizer steps"] == 14


def test_without_tf_config_it_says_that_it_trains_alone(monkeypatch):
    with pytest.warns(UserWarning, match="found no TF_CONFIG, .* Start the script by `tfdist run"):
        assert tfdist.MultiWorkerMirroredStrategy().num_workers == 1
    monkeypatch.setenv("TFDIST_LOCAL_RANK", "0")  # `tfdist run -n 1` has started it
    tfdist.MultiWorkerMirroredStrategy()
