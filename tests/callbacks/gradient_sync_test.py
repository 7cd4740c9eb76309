"""`fit` with each gradient-sync callback, on replicas and on workers, against NumPy."""

import contextlib
import pathlib
import warnings

import devices
import gangs
import keras
import numpy as np
import pytest
import sync_cases as cases
import sync_oracle as oracle
import tensorflow as tf

import tfdist
from tfdist.callbacks import DiLoCo, LocalSGD, PartialSync, SyncSGD

WORKER = pathlib.Path(cases.__file__).with_name("sync_worker.py")


@pytest.fixture(scope="module")
def on_mirrored():
    """What the trainings gave, by case; they are run once. A list, by process."""
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    return [{name: cases.train(name, strategy) for name in cases.ON_MIRRORED}]


@pytest.fixture(scope="module")
def on_workers(tmp_path_factory):
    names = [*cases.CASES, *cases.of_worker(0)]
    return gangs.run(WORKER, "multi", 2, 1, tmp_path_factory.mktemp("out"), names)


@pytest.fixture
def processes(request, where):
    return request.getfixturevalue(where)


everywhere = pytest.mark.parametrize("where", ["on_mirrored", "on_workers"])
every_case = pytest.mark.parametrize(
    ("where", "name"),
    [
        *[("on_mirrored", name) for name in cases.ON_MIRRORED],
        *[("on_workers", name) for name in cases.CASES],
    ],
)


def assert_close(found, wanted, message=""):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=message)


@pytest.mark.timeout(300)
@every_case
def test_fit_is_the_oracles(processes, name):
    expected = cases.expected(name)
    for results in processes:
        result = results[name]
        assert not isinstance(result, str), result
        assert_close(result["weights"], expected.averages[-1], "weights at the end")
        assert_close(result["epochs"], expected.epochs, "weights at the ends of epochs")
        assert_close(result["history"]["loss"], expected.losses, "loss")
        assert_close(result["history"]["mae"], expected.maes, "mae")


@pytest.mark.timeout(300)
@every_case
def test_all_replicas_end_with_the_same_bits(processes, name):
    first = processes[0][name]
    for results in processes:
        result = results[name]
        assert result["weights"].tobytes() == first["weights"].tobytes()
        for replica in result["replicas"]:
            assert replica.tobytes() == first["weights"].tobytes()
        assert np.array(result["epochs"]).tobytes() == np.array(first["epochs"]).tobytes()
        local = ("sync_seconds", "sync_bytes")
        logs = [
            {name: values for name, values in one["history"].items() if name not in local}
            for one in (result, first)
        ]
        assert logs[0] == logs[1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("SyncSGD", "plain"),
        ("LocalSGD(1), SGD", "plain, SGD"),
        ("PartialSync(2, 7)", "SyncSGD"),
        ("DiLoCo(3), SGD(1.0)", "LocalSGD(3)"),
        ("LocalSGD(3), steps_per_execution", "LocalSGD(3)"),
    ],
)
def test_one_is_the_other(on_workers, name, same):
    for results in on_workers:
        assert_close(results[name]["weights"], results[same]["weights"])
        assert_close(results[name]["epochs"], results[same]["epochs"])
    # And another is not: they could be told apart.
    assert (
        np.abs(cases.expected("LocalSGD(3)").epochs - cases.expected("plain").epochs).max() > 0.01
    )


@pytest.mark.timeout(300)
@everywhere
def test_one_fragment_is_diloco(processes):
    streaming = oracle.StreamingDiLoCo(3, [slice(None)])
    expected = oracle.train(2, streaming, oracle.SGD(0.05, momentum=0.9))
    for results in processes:
        assert_close(results["DiLoCo(3)"]["epochs"], expected.epochs)


@pytest.mark.timeout(300)
@everywhere
@pytest.mark.parametrize("name", ["LocalSGD(3)", "DiLoCo(4), 2 fragments"])
def test_validation_sees_the_average_and_changes_nothing(processes, name):
    averages = cases.expected(name).epochs
    losses, maes = zip(*(oracle.evaluate(model, *cases.VALIDATION) for model in averages))
    for results in processes:
        with_validation, without = results[f"{name}, validation"], results[name]
        assert_close(with_validation["history"]["val_loss"], losses)
        assert_close(with_validation["history"]["val_mae"], maes)
        assert with_validation["weights"].tobytes() == without["weights"].tobytes()
        assert np.array_equal(with_validation["epochs"], without["epochs"])
        for log in ("loss", "mae"):
            assert with_validation["history"][log] == without["history"][log]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "theirs", "chiefs"),
    [
        ("other periods", "LocalSGD(period=3", "LocalSGD(period=2"),
        ("other callbacks", "PartialSync(group_size=2", "SyncSGD("),
        ("the chief's alone", "None", "LocalSGD(period=4"),
    ],
)
def test_workers_with_other_settings_are_told(on_workers, name, theirs, chiefs):
    for results in on_workers:
        message = results[name]["said"]
        assert "worker 1" in message and f"gradient synchronisation is {theirs}" in message
        assert " on the chief" in message and chiefs in message


# -- what is sent -----------------------------------------------------------------------------


@pytest.mark.timeout(300)
@everywhere
def test_the_history_holds_what_was_sent(processes):
    for results in processes:
        for name in cases.CASES.keys() & results.keys():
            result = results[name]
            history = result["history"]
            if name.startswith("plain"):
                assert not {"sync_bytes", "sync_seconds"} & history.keys()
                continue
            assert len(history["sync_bytes"]) == len(history["sync_seconds"]) == oracle.EPOCHS
            sent = np.array(history["sync_bytes"]) > 0
            np.testing.assert_array_equal(np.array(history["sync_seconds"]) > 0, sent)
            assert "val_sync_bytes" not in history
            assert all(value is not None for value in result["bytes"])


@pytest.mark.timeout(300)
@everywhere
def test_local_sgd_sends_nothing_between_synchronisations(processes):
    for results in processes:
        # No step sends anything, and the end of an epoch the average and the metrics.
        assert results["LocalSGD(100)"]["bytes"] == [0] * oracle.STEPS
        sent = np.array(results["LocalSGD(100)"]["history"]["sync_bytes"])
        assert (sent > 0).all() and (sent * oracle.STEPS_PER_EPOCH < 1000).all()
        # With a period of 5, the last step of each epoch alone.
        batches = np.reshape(results["LocalSGD(5)"]["bytes"], (oracle.EPOCHS, -1))
        assert (batches[:, :-1] == 0).all() and (batches[:, -1] > 0).all()


@pytest.mark.timeout(300)
def test_bytes_on_replicas_of_one_process_are_those_of_the_formula(on_mirrored):
    (results,) = on_mirrored
    # Two replicas: as many bytes as the data has; a mean sends its weight, too.
    gradients, average = 8 * 4, 8 * 4 + 4
    batches = np.reshape(results["LocalSGD(5)"]["bytes"], (oracle.EPOCHS, -1))
    np.testing.assert_allclose(batches[:, -1], average / oracle.STEPS_PER_EPOCH)
    history = results["LocalSGD(100)"]["history"]["sync_bytes"]
    np.testing.assert_allclose(history, average / oracle.STEPS_PER_EPOCH)
    # Beside the gradients: the sums and counts of two metrics, from which its logs follow.
    np.testing.assert_allclose(results["SyncSGD"]["bytes"], gradients + 4 * 4)


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: LocalSGD(0), "period=0: expected an int of at least 1"),
        (lambda: LocalSGD(2, warmup_steps=-1), "warmup_steps=-1"),
        (lambda: DiLoCo(1.5), "period=1.5"),
        (lambda: DiLoCo(4, fragments=8), "fragments=8 with period=4"),
        (lambda: DiLoCo(4, "adam"), "outer_optimizer='adam': expected a Keras optimizer"),
        (lambda: PartialSync(1, 4), "group_size=1: expected an int of at least 2"),
        (lambda: PartialSync(2, 0), "resync_every=0"),
    ],
)
def test_arguments_out_of_range(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()


def sgd_model(strategy):
    with strategy.scope() if strategy else contextlib.nullcontext():
        return cases.build(strategy, keras.optimizers.SGD(0.05))


@pytest.mark.parametrize(
    ("callbacks", "expected"),
    [
        (lambda: [PartialSync(3, 4)], "group_size=3: the strategy has 2 replicas"),
        (lambda: [DiLoCo(8, fragments=3)], "fragments=3: the model has 2 trainable variables"),
        (lambda: [SyncSGD(), LocalSGD(2)], r"2 gradient-sync callbacks \(SyncSGD, LocalSGD\)"),
        (lambda: [LocalSGD(2), LocalSGD(2)], "replicas can be synchronised in one way only"),
    ],
)
def test_what_fit_refuses(callbacks, expected):
    model = sgd_model(tfdist.MirroredStrategy(devices.PAIR))
    with pytest.raises(ValueError, match=expected):
        cases.fit(model, callbacks())
    np.testing.assert_array_equal(cases.weights(model), oracle.first_model().astype("float32"))


def test_what_was_refused_leaves_nothing_behind():
    model = sgd_model(tfdist.MirroredStrategy(devices.PAIR))
    with pytest.raises(ValueError, match="group_size=3"):
        cases.fit(model, [PartialSync(3, 4)])
    cases.fit(model)
    expected = oracle.train(2, oracle.Synchronous(), oracle.SGD(0.05))
    assert_close(cases.weights(model), expected.averages[-1])


def test_a_strategy_of_tf_distribute_is_refused():
    model = sgd_model(tf.distribute.MirroredStrategy(devices.PAIR))
    with pytest.raises(
        ValueError, match=r"made under tf.distribute's MirroredStrategy. Use `tfdist"
    ):
        cases.fit(model, [LocalSGD(2)])


@pytest.mark.parametrize("strategy", [None, "one replica"])
def test_with_nobody_to_agree_with_it_warns_once_and_trains(strategy):
    strategy = strategy and tfdist.MirroredStrategy(devices.PAIR[:1])
    where = "on a single replica" if strategy else "without a strategy"
    model = sgd_model(strategy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = cases.fit(model, [LocalSGD(2)]).history
    messages = [str(one.message) for one in caught if "nothing to synchronise" in str(one.message)]
    assert len(messages) == 1 and "`LocalSGD`" in messages[0] and where in messages[0]
    assert history.keys() == {"loss", "mae"}
    expected = oracle.train(1, oracle.Synchronous(), oracle.SGD(0.05))
    assert_close(cases.weights(model), expected.averages[-1])


# -- several calls of `fit` --------------------------------------------------------------------


class Fails(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            raise RuntimeError("enough")


def test_a_fit_that_fails_leaves_replicas_equal_and_training_plain():
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    model = sgd_model(strategy)
    with pytest.raises(RuntimeError, match="enough"):
        cases.fit(model, [LocalSGD(100), Fails()])
    first, second = cases.replicas(model)
    assert first.tobytes() == second.tobytes()
    assert not np.array_equal(first, oracle.first_model().astype("float32"))
    history = cases.fit(model, epochs=1).history
    assert history.keys() == {"loss", "mae"}
    first, second = cases.replicas(model)
    assert first.tobytes() == second.tobytes()


def test_one_callback_serves_many_fits():
    strategy, callback, results = tfdist.MirroredStrategy(devices.PAIR), DiLoCo(3), []
    for _ in range(2):
        model = sgd_model(strategy)
        cases.fit(model, [callback])
        results.append(cases.weights(model))
    assert results[0].tobytes() == results[1].tobytes()
