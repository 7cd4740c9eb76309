"""What users do with `fit`, `evaluate`, `predict` and callbacks, each as a tiny training.

`run` tries one under a strategy, or none, and returns numbers that must not
depend on it: the tests compare them with plain Keras in one process.
"""

import contextlib
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers

EXAMPLES, BATCH = 50, 8  # seven steps an epoch, the last with two examples
_rng = np.random.default_rng(0)
X = _rng.normal(size=(EXAMPLES, 6)).astype("float32")
Y = (X[:, :1] * 2 + 1).astype("float32")

FEATURES = {}


def feature(function):
    FEATURES[function.__name__.replace("_", " ")] = function
    return function


def _model(**compile):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(1)]
    )
    options = {"optimizer": keras.optimizers.SGD(0.05), "loss": "mse", "metrics": ["mae"]}
    model.compile(**{**options, **compile})
    return model


def _fit(model, x=X, y=Y, **fit):
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "epochs": 2}
    return dict(model.fit(x, y, **{**options, **fit}).history)


def _written(path):
    """Waits for the chief, who alone writes: the other workers are ahead of its last line."""
    import tfdist

    tfdist.barrier("written", 60)
    return path


def _dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def _batches(repeat=False):
    while True:
        for begin in range(0, EXAMPLES, BATCH):
            yield X[begin : begin + BATCH], Y[begin : begin + BATCH]
        if not repeat:
            return


@feature
def arrays():
    return _fit(_model())


@feature
def tf_data():
    return dict(_model().fit(_dataset().batch(BATCH), epochs=2, verbose=0).history)


@feature
def tf_data_of_unknown_length():
    data = _dataset().filter(lambda x, y: True).batch(BATCH)
    return dict(_model().fit(data, epochs=2, verbose=0).history)


@feature
def generator():
    return dict(_model().fit(_batches(), verbose=0, shuffle=False).history)


@feature
def PyDataset():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return -(-EXAMPLES // BATCH)

        def __getitem__(self, index):
            rows = slice(index * BATCH, (index + 1) * BATCH)
            return X[rows], Y[rows]

    return dict(_model().fit(Batches(), epochs=2, shuffle=False, verbose=0).history)


@feature
def dict_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((1,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Dense(1)(layers.concatenate([a, b])))
    model.compile("sgd", "mse")
    inputs = {"a": X, "b": Y}
    found = _fit(model, inputs)
    return {**found, "predictions": model.predict(inputs, batch_size=7, verbose=0)}


@feature
def several_outputs():
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="tanh")(inputs)
    outputs = {"a": layers.Dense(1, name="a")(x), "b": layers.Dense(2, name="b")(x)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 1.0, "b": 0.5})
    found = _fit(model, X, {"a": Y, "b": X[:, :2]})
    predictions = model.predict(X, batch_size=BATCH, verbose=0)
    return {**found, "a": predictions["a"], "b": predictions["b"]}


@feature
def validation_data():
    return _fit(_model(), validation_data=(X[:13], Y[:13]), validation_batch_size=4)


@feature
def validation_split():
    return _fit(_model(), validation_split=0.2)


@feature
def steps_per_epoch():
    data = _dataset().batch(BATCH).repeat()
    history = _model().fit(
        data, epochs=2, steps_per_epoch=5, validation_data=data, validation_steps=3, verbose=0
    )
    return dict(history.history)


@feature
def steps_per_execution():
    model = _model(steps_per_execution=3)
    found = _fit(model)
    return {**found, "predictions": model.predict(X, batch_size=BATCH, verbose=0)}


@feature
def steps_per_execution_on_tf_data():
    model = _model(steps_per_execution=3)
    return dict(model.fit(_dataset().batch(BATCH), epochs=2, verbose=0).history)


@feature
def gradient_accumulation():
    return _fit(_model(optimizer=keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)))


@feature
def run_eagerly():
    return _fit(_model(run_eagerly=True), epochs=1)


@feature
def clipping():
    return _fit(_model(optimizer=keras.optimizers.SGD(0.05, global_clipnorm=0.5)))


@feature
def EMA():
    return _fit(_model(optimizer=keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)))


@feature
def learning_rate_schedule():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 14)
    model = _model(optimizer=keras.optimizers.SGD(schedule))
    found = _fit(model)
    return {**found, "steps": float(model.optimizer.iterations)}


@feature
def class_weight():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    return _fit(model, X, (Y[:, 0] > 1).astype("int32"), class_weight={0: 1.0, 1: 3.0})


@feature
def sample_weight():
    model = _model(weighted_metrics=["mse"])
    return _fit(model, sample_weight=np.linspace(0, 2, EXAMPLES))


@feature
def EarlyStopping():
    stop = keras.callbacks.EarlyStopping("loss", min_delta=0.5, restore_best_weights=True)
    model = _model()
    found = _fit(model, epochs=8, callbacks=[stop])
    return {**found, "weight": model.get_weights()[0]}


@feature
def ReduceLROnPlateau():
    callback = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=0.3)
    return _fit(_model(), epochs=6, callbacks=[callback])


@feature
def SwapEMAWeights_with_validation():
    model = _model(optimizer=keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8))
    callback = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    found = _fit(model, epochs=3, validation_data=(X[:9], Y[:9]), callbacks=[callback])
    return {**found, "weight": model.get_weights()[0]}


@feature
def predict_on_batch():
    model = _model()
    return {n: model.predict_on_batch(X[:n]) for n in (1, 3)}


@feature
def boolean_predictions():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.ops.greater(layers.Dense(2)(inputs), 0.0))
    return {"predictions": model.predict(X, batch_size=BATCH, verbose=0)}


@feature
def unreduced_loss():
    # Equal batches: Keras weighs the mean of such losses by the square of the batch.
    model = _model(
        optimizer=keras.optimizers.SGD(0.005), loss=keras.losses.MeanSquaredError(reduction="none")
    )
    found = _fit(model, X[:48], Y[:48])
    return {**found, "weight": model.get_weights()[0]}


@feature
def masked_synchronized_batch_normalization():
    tokens = np.arange(EXAMPLES * 5).reshape(EXAMPLES, 5) % 9
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = layers.BatchNormalization(synchronized=True)(x)
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    found = _fit(model, tokens)
    return {**found, "variance": model.layers[2].moving_variance.numpy()}


@feature
def two_optimizers_built_in_the_first_step():
    class GAN(keras.Model):
        def __init__(self):
            super().__init__()
            self.generator = keras.Sequential([keras.Input((1,)), layers.Dense(6)])
            self.critic = keras.Sequential([keras.Input((6,)), layers.Dense(1)])

        def compile(self):
            super().compile()
            self.generator_optimizer = keras.optimizers.Adam(0.01)
            self.critic_optimizer = keras.optimizers.SGD(0.01, global_clipnorm=0.1)

        def train_step(self, data):
            real, noise = data
            loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
            with tf.GradientTape(persistent=True) as tape:
                scores = self.critic(real), self.critic(self.generator(noise))
                ones, zeros = keras.ops.ones_like(scores[0]), keras.ops.zeros_like(scores[0])
                critic_loss = loss_of(ones, scores[0]) + loss_of(zeros, scores[1])
                generator_loss = loss_of(ones, scores[1])
            for part, loss, optimizer in (
                (self.critic, critic_loss, self.critic_optimizer),
                (self.generator, generator_loss, self.generator_optimizer),
            ):
                variables = part.trainable_variables
                optimizer.apply(tape.gradient(loss, variables), variables)
            return {"critic": critic_loss, "generator": generator_loss}

    model = GAN()
    model.compile()
    found = _fit(model)
    return {**found, "weights": np.concatenate([w.numpy().ravel() for w in model.weights])}


@feature
def ModelCheckpoint(directory):
    path = directory / "best.keras"
    model = _model()
    _fit(model, callbacks=[keras.callbacks.ModelCheckpoint(path, "loss", save_best_only=True)])
    return {"written": _written(path).exists(), "weight": model.get_weights()[0]}


@feature
def BackupAndRestore(directory):
    return _fit(_model(), callbacks=[keras.callbacks.BackupAndRestore(directory / "backup")])


@feature
def CSVLogger(directory):
    _fit(_model(), callbacks=[keras.callbacks.CSVLogger(directory / "log.csv")])
    return {"rows": len(_written(directory / "log.csv").read_text().splitlines())}


@feature
def LambdaCallback():
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(float(logs["loss"]))
    )
    _fit(_model(), callbacks=[callback])
    return {"losses": seen}


@feature
def own_train_step():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)
            self.tracker = keras.metrics.Mean(name="tracked")

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = keras.ops.mean(keras.ops.square(self(x, training=True) - y))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            self.tracker.update_state(loss)
            return {"tracked": self.tracker.result(), "raw": loss}

    model = Model()
    model.compile(keras.optimizers.SGD(0.05))
    # Equal batches: a metric of the user's own is updated once by each replica.
    found = _fit(model, X[:48], Y[:48])
    return {**found, "weight": model.get_weights()[0]}


@feature
def compute_loss_in_own_train_step():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                predictions = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=predictions)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return self.compute_metrics(x, y, predictions)

    model = Model()
    model.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"])
    found = _fit(model)
    return {"mae": found["mae"], "weight": model.get_weights()[0]}


@feature
def LSTM():
    model = keras.Sequential([keras.Input((3, 2)), layers.LSTM(4), layers.Dense(1)])
    model.compile("adam", "mse")
    return _fit(model, X.reshape(EXAMPLES, 3, 2))


@feature
def attention_with_mask():
    tokens = np.arange(EXAMPLES * 5).reshape(EXAMPLES, 5) % 9
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = layers.MultiHeadAttention(2, 2)(x, x)
    x = layers.LayerNormalization()(x)
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))
    model.compile("adam", "mse")
    return _fit(model, tokens)


@feature
def synchronized_batch_normalization():
    model = keras.Sequential(
        [keras.Input((6,)), layers.BatchNormalization(synchronized=True), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse")
    found = _fit(model)
    return {**found, "moving mean": model.layers[0].moving_mean.numpy()}


@feature
def AUC_precision_and_F1():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1, activation="sigmoid")])
    metrics = [
        keras.metrics.AUC(name="auc"),
        keras.metrics.Precision(name="precision"),
        keras.metrics.F1Score(threshold=0.5, name="f1"),
    ]
    model.compile("adam", "binary_crossentropy", metrics=metrics)
    labels = (Y > 1).astype("float32")
    _fit(model, X, labels)
    return model.evaluate(X, labels, batch_size=BATCH, verbose=0, return_dict=True)


@feature
def custom_metric():
    class LargestError(keras.metrics.Metric):
        """A sum, as all of Keras' own state is: of squared errors above one."""

        def __init__(self):
            super().__init__(name="large")
            self.total = self.add_weight(initializer="zeros", name="total")

        def update_state(self, y, predictions, sample_weight=None):
            error = keras.ops.square(y - predictions)
            self.total.assign_add(keras.ops.sum(keras.ops.where(error > 1, error, 0.0)))

        def result(self):
            return self.total

    return _fit(_model(metrics=[LargestError()]))


@feature
def predict_in_order():
    model = _model()
    return {n: model.predict(X[:n], batch_size=BATCH, verbose=0) for n in (1, 2, 15, 50)}


@feature
def save_and_load(directory):
    model = _model()
    _fit(model)
    model.save(directory / "model.keras")
    loaded = keras.saving.load_model(_written(directory / "model.keras"))
    found = _fit(loaded)  # training goes on from the optimizer's state
    return {**found, "predictions": loaded.predict(X, verbose=0)}


@feature
def second_fit_and_compile():
    model = _model()
    first = _fit(model)["loss"]
    model.compile(keras.optimizers.Adam(0.01), "mae")
    return {"first": first, "second": _fit(model, batch_size=16)["loss"]}


@feature
def train_on_batch():
    model = _model()
    return {"loss": [float(model.train_on_batch(X[:8], Y[:8])[0]) for _ in range(3)]}


@feature
def frozen_layers():
    model = _model()
    model.layers[0].trainable = False
    model.compile(keras.optimizers.SGD(0.05), "mse")
    found = _fit(model)
    return {**found, "frozen": model.get_weights()[0]}


@feature
def keras_applications():
    # In float64: on so few pixels the variances of BatchNormalization, as Keras
    # computes them over replicas or one, E(x^2) - E(x)^2, lose all digits in float32.
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model = keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=3)
        for layer in model.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.synchronized = True
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        images = np.random.default_rng(1).normal(size=(8, 32, 32, 3))
        return _fit(model, images, np.arange(8) % 3, batch_size=4, epochs=1)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def run(name, strategy=None, directory=None):
    """Runs a feature, all of it inside the scope, as notebooks do.

    Returns:
        Dict of numbers and arrays.
    """
    keras.utils.set_random_seed(3)
    function = FEATURES[name]
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
        if strategy is not None:
            stack.enter_context(strategy.scope())
        needs_directory = function.__code__.co_argcount > 0
        return function(pathlib.Path(directory)) if needs_directory else function()
