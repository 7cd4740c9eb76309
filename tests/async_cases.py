"""What one cluster with parameter servers does for `parameter_server_test.py`, case by case.

`run` is called by `tfdist.run` on a coordinator; it returns what each case found, or the
traceback of what it raised.
"""

import pathlib
import tempfile
import traceback

import numpy as np

EXAMPLES, BATCH, CLASSES = 103, 16, 3
STEPS = -(-EXAMPLES // BATCH)
RATE = 0.125


def run():
    """Runs all cases; returns a dict of results, or of tracebacks as text, by name."""
    import tensorflow as tf

    import tfdist

    parts = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
    strategy = tfdist.ParameterServerStrategy(variable_partitioner=parts)
    found = {}
    for name, case in CASES.items():
        try:
            found[name] = case(strategy)
        except Exception:
            found[name] = traceback.format_exc()
    return found


def data():
    """Inputs of shape (103, 4) and labels of three classes."""
    random = np.random.default_rng(0)
    x = random.normal(size=(EXAMPLES, 4)).astype("float32")
    return x, np.argmax(x @ random.normal(size=(4, CLASSES)), axis=1).astype("int32")


def classifier(strategy, optimizer, *layers, **options):
    """A compiled model of `data`, the same each time."""
    import contextlib

    import keras

    keras.utils.set_random_seed(7)
    with strategy.scope() if strategy else contextlib.nullcontext():
        layers = [layer() for layer in layers]
        model = keras.Sequential(
            [keras.Input((4,)), *layers, keras.layers.Dense(CLASSES, activation="softmax")]
        )
        loss = "sparse_categorical_crossentropy"
        model.compile(optimizer(), loss, metrics=["accuracy"], **options)
    return model


def frozen(strategy):
    """A model that training does not change: its metrics are those of fixed weights."""
    import keras

    return classifier(strategy, lambda: keras.optimizers.SGD(0.0))


def of_fixed_weights(model, x, y):
    """Cross entropy and accuracy of `model` on data, by NumPy, and its predictions."""
    kernel, bias = model.get_weights()
    scores = np.exp(x.astype("float64") @ kernel + bias)
    shares = scores / scores.sum(axis=1, keepdims=True)
    loss = -np.log(shares[np.arange(len(y)), y]).mean()
    return {"loss": loss, "accuracy": (shares.argmax(axis=1) == y).mean()}, shares


def each_example_once(strategy):
    x, y = data()
    model = frozen(strategy)
    found = {"of arrays": model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0).history}
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(EXAMPLES).batch(BATCH)
    found["of tf.data"] = model.fit(dataset, verbose=0).history
    found["of tf.data, three at a time"] = _three_at_a_time(strategy, dataset)
    found["iterations"] = int(model.optimizer.iterations)
    found["expected"], _ = of_fixed_weights(model, x, y)
    return found


def _three_at_a_time(strategy, dataset):
    import keras

    model = classifier(strategy, lambda: keras.optimizers.SGD(0.0), steps_per_execution=3)
    return model.fit(dataset, verbose=0).history


def evaluate_and_predict(strategy):
    x, y = data()
    model = frozen(strategy)
    evaluated = model.evaluate(x, y, batch_size=10, verbose=0, return_dict=True)
    predicted = model.predict(x, batch_size=10, verbose=0)
    expected, shares = of_fixed_weights(model, x, y)
    return {
        "evaluated": evaluated,
        "expected": expected,
        "predicted": predicted,
        "shares": shares,
        "evaluated again": model.evaluate(x, y, batch_size=7, verbose=0, return_dict=True),
    }


def dataset_function(strategy):
    import tensorflow as tf

    x, y = data()

    def of_worker(context):
        dataset = tf.data.Dataset.from_tensor_slices((x, y))
        shard = dataset.shard(context.num_input_pipelines, context.input_pipeline_id)
        return shard.batch(5)

    model = frozen(strategy)
    history = model.fit(of_worker, epochs=3, verbose=0, validation_data=of_worker).history
    epochs = int(model.optimizer.iterations)
    model = frozen(strategy)
    model.fit(lambda context: of_worker(context).repeat(), epochs=2, steps_per_epoch=9, verbose=0)
    return {
        "history": history,
        "expected": of_fixed_weights(model, x, y)[0],
        "steps of three epochs": epochs,
        "steps of two times nine": int(model.optimizer.iterations),
    }


def one_at_a_time(strategy):
    """With a bound of 0 steps are one after the other: the weights of one process."""
    import tfdist

    x, y = data()
    found = {}
    for name in SEQUENTIAL:
        optimizer, layers = _optimizer_and_layers(name)
        weights = []
        for where in (strategy, None):
            model = classifier(where, optimizer, *layers)
            callbacks = [tfdist.callbacks.AsyncSGD(max_staleness=0)] if where else []
            options = {"batch_size": BATCH, "epochs": 3, "shuffle": False, "verbose": 0}
            history = model.fit(x, y, callbacks=callbacks, **options).history
            weights.append((model.get_weights(), history["loss"], history["accuracy"]))
        found[name] = weights
    return found


def _optimizer_and_layers(name):
    """What to train with one step at a time: a function that makes an optimizer, and layers'."""
    import keras

    optimizers = keras.optimizers
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    return {
        "SGD with momentum": (lambda: optimizers.SGD(0.1, momentum=0.9), ()),
        "Adam with a schedule": (lambda: optimizers.Adam(schedule), ()),
        "AdamW": (lambda: optimizers.AdamW(0.01, weight_decay=0.1), ()),
        "clipped": (lambda: optimizers.SGD(0.5, global_clipnorm=0.1), ()),
        "moving average": (
            lambda: optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=4),
            (),
        ),
        "BatchNormalization": (
            lambda: optimizers.SGD(0.1),
            (lambda: keras.layers.BatchNormalization(momentum=0.9),),
        ),
    }[name]


SEQUENTIAL = (
    "SGD with momentum",
    "Adam with a schedule",
    "AdamW",
    "clipped",
    "moving average",
    "BatchNormalization",
)


def summing_model(strategy, layer=None):
    """A model whose loss is its one weight: each step takes the learning rate off it."""
    import keras
    import tensorflow as tf

    class Weight(keras.layers.Layer):
        def build(self, shape):
            self.weight = self.add_weight((), initializer="zeros")

        def call(self, x):
            slow = 0.0 if layer is None else layer()
            return self.weight + 0.0 * tf.reduce_mean(x, axis=1) + slow

    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), Weight()])
        model.compile(keras.optimizers.SGD(RATE), lambda _, y: y)
    return model


def staleness(strategy):
    """Histograms with a slow worker, for bounds and none; and what scaling did."""
    import slow_worker

    import tfdist

    x = np.zeros((60, 1), "float32")
    found = {}
    for bound in (0, 1, 3, None):
        for scaling in (False, True):
            model = summing_model(strategy, lambda: slow_worker.sleep_on(1, 30_000))
            callback = tfdist.callbacks.AsyncSGD(bound, staleness_scaling=scaling)
            history = model.fit(x, x, batch_size=2, verbose=0, callbacks=[callback]).history
            found[bound, scaling] = {
                "histogram": callback.histogram,
                "history": {name: values[-1] for name, values in history.items()},
                "weight": float(model.get_weights()[0]),
                "iterations": int(model.optimizer.iterations),
            }
    return found


def claims(strategy):
    """A step that runs twice, as after a worker's loss: its update is applied once."""
    import tensorflow as tf

    model = summing_model(strategy)
    model.fit(np.zeros((4, 1)), np.zeros((4, 1)), batch_size=2, verbose=0)
    claim = strategy.claim_of(model.optimizer)
    function = tf.function(claim)
    seen = []
    for number in (900, 900, 901, 900):
        is_first, version = strategy.coordinator.schedule(
            function, args=(tf.constant(number, tf.int64),)
        ).fetch()
        seen.append((bool(is_first), int(version)))
    return seen, int(model.optimizer.iterations)


def callbacks(strategy):
    import keras

    x, y = data()
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        model = classifier(strategy, lambda: keras.optimizers.Adam(0.01))
        history = model.fit(
            x,
            y,
            epochs=20,
            steps_per_epoch=2,
            batch_size=BATCH,
            verbose=0,
            validation_data=(x, y),
            callbacks=[
                keras.callbacks.EarlyStopping("val_loss", min_delta=100.0, patience=2),
                keras.callbacks.ModelCheckpoint(directory / "best.keras", save_best_only=True),
                keras.callbacks.CSVLogger(directory / "log.csv"),
                keras.callbacks.TensorBoard(directory / "board"),
            ],
        ).history
        loaded = keras.saving.load_model(directory / "best.keras")
        predicted = loaded.predict(x, verbose=0)
        return {
            "epochs": len(history["loss"]),
            "iterations": int(model.optimizer.iterations),
            "csv": (directory / "log.csv").read_text().splitlines(),
            "board": len(list((directory / "board").rglob("events*"))),
            "best": min(history["val_loss"]),
            "loaded": float(-np.log(predicted[np.arange(len(y)), y]).mean()),
        }


def embeddings(strategy):
    """A table over two servers trains like one in one process, and is saved as one."""
    import contextlib

    import keras

    import tfdist

    ids = np.random.default_rng(1).integers(0, 11, (64, 3)).astype("int32")
    y = (ids.sum(axis=1, keepdims=True) % 2).astype("float32")
    found = {}
    for where in (strategy, None):
        keras.utils.set_random_seed(3)
        with where.scope() if where else contextlib.nullcontext():
            table = keras.layers.Embedding(11, 4)
            model = keras.Sequential(
                [keras.Input((3,), dtype="int32"), table, keras.layers.Flatten()]
                + [keras.layers.Dense(1)]
            )
            model.compile(keras.optimizers.SGD(0.1), "mse")
        callbacks = [tfdist.callbacks.AsyncSGD(max_staleness=0)] if where else []
        model.fit(ids, y, epochs=2, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
        found[where is None] = keras.ops.convert_to_numpy(table.embeddings)
        if where is None:
            continue
        found["devices"] = sorted({weight.value.device for weight in table.weights})
        found["shapes"] = [tuple(weight.shape) for weight in table.weights]
        graphs = [function.graph for function, _ in model.train_function._step._traced.values()]
        reads = [
            tuple(op.outputs[0].shape)
            for graph in graphs
            for op in graph.get_operations()
            if op.type == "ReadVariableOp"
        ]
        found["tables read"] = [shape for shape in reads if shape in found["shapes"]]
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "model.keras"
            model.save(path)
            found["predicted"] = model.predict(ids, verbose=0)
            loaded = keras.saving.load_model(path)
            found["loaded"] = [tuple(weight.shape) for weight in loaded.layers[0].weights]
            found["predicted by loaded"] = loaded.predict(ids, verbose=0)
            with where.scope():
                again = keras.saving.load_model(path)
            found["predicted by loaded in scope"] = again.predict(ids, verbose=0)
    return found


def refusals(strategy):
    """What is refused, and in which words."""
    import keras

    import tfdist

    x, y = data()
    found = {}

    def refused(name, optimizer=keras.optimizers.SGD, callbacks=(), **options):
        model = classifier(strategy, optimizer, **options)
        try:
            model.fit(x, y, verbose=0, callbacks=list(callbacks))
        except ValueError as error:
            found[name] = str(error)

    refused("accumulation", lambda: keras.optimizers.SGD(gradient_accumulation_steps=2))
    refused("loss scaling", lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))
    refused("eager", run_eagerly=True)
    refused("local", callbacks=[tfdist.callbacks.LocalSGD(4)])
    model = frozen(strategy)
    try:
        model.fit(x[:0], y[:0], verbose=0)
    except ValueError as error:
        found["empty"] = str(error)
    try:
        model.fit(lambda context: 3, verbose=0)
    except TypeError as error:
        found["no dataset"] = str(error)
    return found


def aftermath(strategy):
    """A `fit` that raised leaves the next one alone."""
    import keras

    x, y = data()
    model = frozen(strategy)

    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyError("mine")

    try:
        model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[Fails()])
    except KeyError:
        before = "raised"
    history = model.fit(x, y, batch_size=BATCH, verbose=0).history
    model.reset_metrics()
    on_batch = model.train_on_batch(x[:10], y[:10], return_dict=True)
    return {
        "before": before,
        "history": history,
        "expected": of_fixed_weights(model, x, y)[0],
        "on batch": on_batch,
        "expected on batch": of_fixed_weights(model, x[:10], y[:10])[0],
    }


def dropout(strategy):
    """Different examples are dropped in each step, although no worker tells another."""
    import keras
    import tensorflow as tf

    class Dropped(keras.metrics.Metric):
        """The number of steps by the pattern that dropout left of eight ones."""

        def __init__(self):
            super().__init__(name="dropped")
            self.seen = self.add_weight(shape=(256,), initializer="zeros", name="seen")

        def update_state(self, y_true, y_pred, sample_weight=None):
            bits = tf.cast(y_pred[0] > 0, tf.int32) * tf.constant([2**i for i in range(8)])
            self.seen.assign_add(tf.one_hot(tf.reduce_sum(bits), 256))

        def result(self):
            return tf.reduce_sum(tf.cast(self.seen > 0, tf.float32))

    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.5, seed=1)])
        model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[Dropped()])
    ones = np.ones((40, 8), "float32")
    return model.fit(ones, ones, batch_size=1, verbose=0).history["dropped"][0]


def recorded_order(strategy):
    """Trains two variables and records which version each step read, and when it was applied."""
    import keras
    import slow_worker
    import tensorflow as tf

    from tfdist.compat import active_step
    from tfdist.strategies.parameter_server import in_one_piece

    steps = 40
    with strategy.scope():
        version = [tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2)]
        read = [tf.Variable(tf.zeros([steps], tf.int64), trainable=False) for _ in range(2)]
        applied = [tf.Variable(tf.zeros([steps], tf.int64), trainable=False) for _ in range(2)]
        first = tf.Variable(10**9, dtype=tf.int64, trainable=False)

    def place(number):
        return [[number - first.read_value()]]

    class Product(keras.layers.Layer):
        """x a b: the gradient of each factor is made of the other one's value."""

        def build(self, shape):
            self.factors = [
                self.add_weight(
                    (3,), name=f"factor_{i}", initializer=keras.initializers.Constant(c)
                )
                for i, c in enumerate((0.5, -0.25))
            ]

        def call(self, x):
            values = [self._read(i) for i in range(2)]
            return x * values[0] * values[1] + slow_worker.sleep_on(1, 4_000)

        def _read(self, i):
            variable = self.factors[i].value
            step = active_step.current()
            if step is None:
                return tf.convert_to_tensor(variable)
            lock = strategy._locks[variable.handle.ref()]

            def locked():
                value = tf.identity(variable.read_value())
                read[i].scatter_nd_update(place(step.replica_id), [version[i].read_value()])
                return value

            return in_one_piece(lock, locked)

    class Recorded(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            i = self._get_variable_index(variable)
            number = active_step.current().replica_id
            applied[i].scatter_nd_update([[version[i].read_value()]], place(number)[0])
            version[i].assign_add(1)
            super().update_step(gradient, variable, learning_rate)

    random = np.random.default_rng(5)
    x, y = random.normal(size=(2, steps, 3)).astype("float32")
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), Product()])
        model.compile(Recorded(0.1), "mse")
    from tfdist.strategies.outstanding import Outstanding

    first.assign(next(Outstanding._numbers) + 1)
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
    return {
        "x": x,
        "y": y,
        "read": [v.numpy() for v in read],
        "applied": [v.numpy() for v in applied],
        "weights": model.get_weights(),
        "iterations": int(model.optimizer.iterations),
    }


CASES = {
    case.__name__: case
    for case in (
        each_example_once,
        evaluate_and_predict,
        dataset_function,
        one_at_a_time,
        staleness,
        claims,
        callbacks,
        embeddings,
        refusals,
        aftermath,
        dropout,
        recorded_order,
    )
}
