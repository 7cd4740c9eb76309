"""Steps that run at the same time: how stale they are, and that each is applied once."""

import numpy as np

RATE = 0.125


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
    updates, optimizer = strategy.updates, model.optimizer
    function = tf.function(
        lambda number: updates.of_optimizer(optimizer, lambda: updates.claim(optimizer, number))
    )
    seen = []
    for number in (900, 900, 901, 900):
        is_first, version = strategy.coordinator.schedule(
            function, args=(tf.constant(number, tf.int64),)
        ).fetch()
        seen.append((bool(is_first), int(version)))
    return seen, int(model.optimizer.iterations)


def locks(strategy):
    """Which optimizers are applied as a whole: they assign beyond an update, or lock twice."""
    import keras

    optimizers = keras.optimizers
    settings = {
        "SGD": lambda: optimizers.SGD(0.1, momentum=0.9),
        "Adam, clipped": lambda: optimizers.Adam(0.1, global_clipnorm=1.0),
        "AdamW": lambda: optimizers.AdamW(0.1, weight_decay=0.1),
        "Ftrl": lambda: optimizers.Ftrl(0.1),
        "Adafactor": lambda: optimizers.Adafactor(0.1),
        "Nadam": lambda: optimizers.Nadam(0.1),
        "Muon": lambda: optimizers.Muon(0.1),
        "averages": lambda: optimizers.SGD(0.1, use_ema=True),
        "constraint": lambda: optimizers.SGD(0.1),
    }
    found, is_whole = {}, strategy.updates.is_applied_as_a_whole

    def noted(*arguments):
        found[name] = is_whole(*arguments)
        return found[name]

    strategy.updates.is_applied_as_a_whole = noted
    for name, make in settings.items():
        with strategy.scope():
            constraint = "non_neg" if name == "constraint" else None
            layers = [keras.Input((3,)), keras.layers.Dense(2, kernel_constraint=constraint)]
            model = keras.Sequential(layers)
            model.compile(make(), "mse")
        x = np.ones((8, 3), "float32")
        # With a lock that a step took twice training stood still within some hundred steps.
        epochs = 100 if name == "AdamW" else 1
        model.fit(x, x[:, :2], batch_size=2, epochs=epochs, verbose=0)
    del strategy.updates.is_applied_as_a_whole
    return found


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

            def locked():
                value = tf.identity(variable.read_value())
                read[i].scatter_nd_update(place(step.replica_id), [version[i].read_value()])
                return value

            return strategy.updates.under_lock_of(variable, locked)

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
