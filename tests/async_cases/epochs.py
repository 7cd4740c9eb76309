"""What `fit`, `evaluate` and `predict` see of the data, and which logs they give."""

from async_cases.common import BATCH, EXAMPLES, classifier, data, frozen, of_fixed_weights


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
