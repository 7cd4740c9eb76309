"""What `fit` is fed with, and in how many steps."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from feature_cases.common import BATCH, EACH_KIND, EXAMPLES, SLOW, X, Y, feature, fit, small_model


def _dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def _batches():
    for begin in range(0, EXAMPLES, BATCH):
        yield X[begin : begin + BATCH], Y[begin : begin + BATCH]


@feature(quick=SLOW)
def arrays():
    return fit(small_model())


@feature(quick=SLOW)
def tf_data():
    return dict(small_model().fit(_dataset().batch(BATCH), epochs=2, verbose=0).history)


@feature(quick=EACH_KIND)
def tf_data_of_unknown_length():
    data = _dataset().filter(lambda x, y: True).batch(BATCH)
    return dict(small_model().fit(data, epochs=2, verbose=0).history)


@feature
def generator():
    return dict(small_model().fit(_batches(), verbose=0, shuffle=False).history)


class Batches(keras.utils.PyDataset):
    """The data in batches, one of them at a time."""

    def __len__(self):
        return -(-EXAMPLES // BATCH)

    def __getitem__(self, index):
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return X[rows], Y[rows]


@feature(quick=SLOW)
def PyDataset():
    return dict(small_model().fit(Batches(), epochs=2, shuffle=False, verbose=0).history)


@feature(quick=SLOW)
def PyDataset_with_threads():
    batches = Batches(workers=2, max_queue_size=3)
    return dict(small_model().fit(batches, epochs=3, shuffle=False, verbose=0).history)


@feature(quick=SLOW)
def PyDataset_shuffled():
    # Without learning, an epoch's mean is the same in every order of the batches, if
    # all replicas go by the same one.
    model = small_model(optimizer=keras.optimizers.SGD(0.0))
    return dict(model.fit(Batches(), epochs=3, verbose=0).history)


@feature(quick=EACH_KIND)
def PyDataset_shuffled_by_threads():
    model = small_model(optimizer=keras.optimizers.SGD(0.0))
    batches = Batches(workers=2, max_queue_size=3)
    return dict(model.fit(batches, epochs=3, validation_data=Batches(), verbose=0).history)


@feature(quick=SLOW)
def list_of_inputs():
    a, b = keras.Input((6,)), keras.Input((1,))
    model = keras.Model([a, b], layers.Dense(1)(layers.concatenate([a, b])))
    model.compile("sgd", "mse")
    found = fit(model, [X, Y])
    return {**found, "predictions": model.predict([X, Y], batch_size=7, verbose=0)}


@feature(quick=EACH_KIND)
def dict_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((1,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Dense(1)(layers.concatenate([a, b])))
    model.compile("sgd", "mse")
    inputs = {"a": X, "b": Y}
    found = fit(model, inputs)
    return {**found, "predictions": model.predict(inputs, batch_size=7, verbose=0)}


@feature(quick=EACH_KIND)
def several_outputs():
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="tanh")(inputs)
    outputs = {"a": layers.Dense(1, name="a")(x), "b": layers.Dense(2, name="b")(x)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 1.0, "b": 0.5})
    found = fit(model, X, {"a": Y, "b": X[:, :2]})
    predictions = model.predict(X, batch_size=BATCH, verbose=0)
    return {**found, "a": predictions["a"], "b": predictions["b"]}


@feature(quick=EACH_KIND)
def validation_data():
    return fit(small_model(), validation_data=(X[:13], Y[:13]), validation_batch_size=4)


@feature
def validation_split():
    return fit(small_model(), validation_split=0.2)


@feature
def steps_per_epoch():
    data = _dataset().batch(BATCH).repeat()
    history = small_model().fit(
        data, epochs=2, steps_per_epoch=5, validation_data=data, validation_steps=3, verbose=0
    )
    return dict(history.history)


@feature(quick=SLOW)
def steps_per_execution():
    model = small_model(steps_per_execution=3)
    found = fit(model)
    return {**found, "predictions": model.predict(X, batch_size=BATCH, verbose=0)}


@feature(quick=EACH_KIND)
def steps_per_execution_on_tf_data():
    model = small_model(steps_per_execution=3)
    return dict(model.fit(_dataset().batch(BATCH), epochs=2, verbose=0).history)


@feature(quick=EACH_KIND)
def single_batches_of_all_sizes():
    """Rows of an embedding that several examples share, which Adam counts one by one."""
    words, numbers = keras.Input((5,), dtype="int32"), keras.Input((6,))
    embedded = layers.Flatten()(layers.Embedding(9, 2)(words))
    outputs = layers.Dense(1)(layers.Concatenate()([embedded, numbers]))
    model = keras.Model([words, numbers], outputs)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    rng, found = np.random.default_rng(6), []
    for examples in (8, 7, 1, 8):
        x = [rng.integers(0, 9, (examples, 5)), X[:examples]]
        found += model.train_on_batch(x, Y[:examples])
        weights = np.linspace(1, 2, examples)
        found += model.test_on_batch(x, Y[:examples], sample_weight=weights)
        found.append(np.sum(model.predict_on_batch(x)))
    return {"found": found, "table": model.get_weights()[0]}


class OfTokens(keras.Model):
    """A number for each row of a ragged batch."""

    def __init__(self):
        super().__init__()
        self.embedding, self.dense = layers.Embedding(9, 3), layers.Dense(1)

    def call(self, rows):
        values = self.embedding(rows.to_tensor())
        mask = tf.sequence_mask(rows.row_lengths(), dtype=values.dtype)
        return self.dense(tf.reduce_sum(values * mask[..., tf.newaxis], axis=1))


class OfEachToken(OfTokens):
    """A number for each token of a ragged batch, ragged too."""

    def call(self, rows):
        return rows.with_flat_values(self.dense(self.embedding(rows.flat_values))[:, 0])


class OfSparse(keras.Model):
    """A number for each row of a sparse batch."""

    def __init__(self):
        super().__init__()
        self.kernel = self.add_weight(shape=(6, 1))

    def call(self, rows):
        return tf.sparse.sparse_dense_matmul(rows, tf.convert_to_tensor(self.kernel))


def _rows():
    return tf.ragged.constant([[1 + i % 7] * (i % 5) + [i % 3] for i in range(EXAMPLES)])


def _squares(labels, predictions):
    return tf.reduce_mean((labels - predictions) ** 2, axis=1)  # of each row, ragged or not


def _of_composites(model, x, y, built=None, loss="mse", metrics=("mae",)):
    if built is not None:
        model(built)
    model.compile(keras.optimizers.SGD(0.05), loss, metrics=list(metrics))
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    before = model.evaluate(data, verbose=0)
    history = model.fit(data, epochs=2, validation_data=data, verbose=0).history
    on_batch = model.train_on_batch(x, y)
    predictions = model.predict(data.map(lambda x, y: x), verbose=0)
    return {**history, "before": before, "on batch": on_batch, "predictions": predictions}


@feature
def ragged_batches():
    return _of_composites(OfTokens(), _rows(), Y)


@feature
def ragged_batches_of_a_built_model():
    return _of_composites(OfTokens(), _rows(), Y, built=_rows()[:2])


@feature
def ragged_labels_and_predictions():
    labels = tf.cast(_rows(), "float32") / 9
    found = _of_composites(OfEachToken(), _rows(), labels, loss=_squares, metrics=())
    predictions = found.pop("predictions")
    lengths = predictions.row_lengths().numpy()
    return {**found, "predictions": predictions.flat_values.numpy(), "lengths": lengths}


@feature
def sparse_batches():
    rows = tf.sparse.from_dense(tf.where(X > 0, X, 0.0))
    return _of_composites(OfSparse(), rows, Y)
