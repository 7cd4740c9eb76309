"""A coordinator, two workers and two parameter servers, started once for all cases."""

import async_cases
import numpy as np
import pytest
import slowness
from async_cases.common import STEPS
from async_cases.one_process import SEQUENTIAL
from async_cases.steps import RATE

import tfdist


@pytest.fixture(scope="module")
def found():
    (results,) = tfdist.run(
        async_cases.run, workers=2, parameter_servers=2, timeout=slowness.seconds(280)
    )

    def of(name):
        assert not isinstance(results[name], str), results[name]
        return results[name]

    return of


def close(found, expected, tolerance=1e-5):
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=tolerance), name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("data", ["of arrays", "of tf.data", "of tf.data, three at a time"])
def test_an_epoch_sees_each_example_once(found, data):
    # Weights that stay: an epoch's metrics are those of the whole data, by NumPy.
    history = found("each_example_once")[data]
    for epoch in range(len(history["loss"])):
        expected = found("each_example_once")["expected"]
        close({name: history[name][epoch] for name in expected}, expected)


def test_iterations_count_every_step(found):
    assert found("each_example_once")["iterations"] == 3 * STEPS


def test_evaluate_is_exact_and_predict_in_order(found):
    case = found("evaluate_and_predict")
    close(case["evaluated"], case["expected"])
    close(case["evaluated again"], case["expected"])
    np.testing.assert_allclose(case["predicted"], case["shares"], atol=1e-6)


def test_a_dataset_function_gives_each_worker_its_share(found):
    case = found("dataset_function")
    for epoch in range(3):
        close({name: case["history"][name][epoch] for name in case["expected"]}, case["expected"])
        validated = {name: case["history"]["val_" + name][epoch] for name in case["expected"]}
        close(validated, case["expected"])
    # 52 and 51 examples in batches of 5, on two workers.
    assert case["steps of three epochs"] == 3 * (11 + 11)
    assert case["steps of two times nine"] == 18


@pytest.mark.parametrize("name", list(SEQUENTIAL))
def test_one_step_at_a_time_gives_the_weights_of_one_process(found, name):
    (ours, *our_logs), (theirs, *their_logs) = found("one_at_a_time")[name]
    for a, b in zip(ours, theirs, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * max(1e-3, np.linalg.norm(b))
    np.testing.assert_allclose(our_logs, their_logs, rtol=1e-4)


@pytest.mark.parametrize("bound", [0, 1, 3])
@pytest.mark.parametrize("scaling", [False, True])
def test_staleness_never_passes_its_bound(found, bound, scaling):
    # One worker takes 30 ms a step and the other next to nothing.
    case = found("staleness")[bound, scaling]
    assert max(case["histogram"]) <= bound
    assert case["history"]["staleness_max"] == max(case["histogram"])


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("bound", [0, 1, 3, None])
def test_each_step_moves_the_weight_once_by_its_learning_rate(found, bound, scaling):
    case = found("staleness")[bound, scaling]
    steps = sum(case["histogram"].values())
    assert steps == case["iterations"] == 30
    expected = sum(
        count / max(1, staleness if scaling else 1)
        for staleness, count in case["histogram"].items()
    )
    assert case["weight"] == pytest.approx(-RATE * expected, abs=1e-5)


def test_the_logs_hold_a_histogram_of_staleness(found):
    case = found("staleness")[None, False]
    names = ["0", "1", "2_3", "4_7", "8_15", "16_or_more"]
    assert sum(case["history"][f"staleness_{name}"] for name in names) == 30
    counts = case["histogram"]
    assert case["history"]["staleness_2_3"] == counts.get(2, 0) + counts.get(3, 0)
    mean = sum(value * count for value, count in counts.items()) / 30
    assert case["history"]["staleness_mean"] == pytest.approx(mean)


def test_a_step_that_runs_again_is_applied_once(found):
    seen, iterations = found("claims")
    assert seen == [(True, 2), (False, 3), (True, 3), (False, 4)]
    assert iterations == 4


def test_optimizers_that_assign_beyond_an_update_or_update_twice_are_applied_as_a_whole(found):
    whole = {name for name, as_a_whole in found("locks").items() if as_a_whole}
    assert whole == {"AdamW", "Nadam", "Muon", "averages", "constraint"}


def test_keras_callbacks(found):
    case = found("callbacks")
    assert case["epochs"] == 3  # the first one, and two that were no better by 100
    assert case["iterations"] == 3 * 2
    header, *rows = case["csv"]
    assert len(rows) == 3
    for name in ("loss", "accuracy", "val_loss", "staleness_mean", "staleness_max"):
        assert name in header.split(",")
    assert case["board"] >= 1
    assert case["loaded"] == pytest.approx(case["best"], abs=1e-5)


def test_an_embedding_over_two_servers_trains_as_in_one_process(found):
    case = found("embeddings")
    np.testing.assert_allclose(case[False], case[True], atol=1e-6)
    assert case["shapes"] == [(6, 4), (5, 4)]
    assert [device.split("/")[3] for device in case["devices"]] == ["task:0", "task:1"]


def test_no_step_fetches_an_embedding_table(found):
    assert found("embeddings")["tables read"] == []


def test_an_embedding_over_two_servers_is_saved_as_one_table(found):
    case = found("embeddings")
    assert case["loaded"] == [(11, 4)]
    for name in ("predicted by loaded", "predicted by loaded in scope"):
        np.testing.assert_allclose(case[name], case["predicted"], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("accumulation", "`gradient_accumulation_steps` has no meaning"),
        ("loss scaling", "mixed_bfloat16"),
        ("eager", "`run_eagerly=True` cannot run on workers"),
        ("local", "Use `tfdist.callbacks.AsyncSGD`"),
        ("empty", "The dataset is empty: received 0 batches"),
        ("no dataset", "must return a `tf.data.Dataset`"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(found, name, words):
    assert words in found("refusals")[name]


def test_a_fit_that_raised_leaves_the_next_one_alone(found):
    case = found("aftermath")
    assert case["before"] == "raised"
    close({name: case["history"][name][0] for name in case["expected"]}, case["expected"])


def test_train_on_batch_returns_the_logs_of_its_batch(found):
    case = found("aftermath")
    close(case["on batch"], case["expected on batch"])


def test_dropout_differs_from_step_to_step(found):
    # 40 draws of 8 bits: fewer than 25 different ones have a chance of 1e-6.
    assert found("dropout") >= 25


def test_the_recorded_order_gives_the_same_weights_in_numpy(found):
    case = found("recorded_order")
    steps = len(case["x"])
    assert case["iterations"] == steps
    # weights[i][v]: factor i behind v updates.
    weights = [[np.full(3, value)] for value in (0.5, -0.25)]
    gradients = {}
    while min(map(len, weights)) <= steps:
        before = len(weights[0]), len(weights[1])
        for step in range(steps):
            read = [case["read"][i][step] for i in range(2)]
            if step not in gradients and all(read[i] < len(weights[i]) for i in range(2)):
                a, b = (weights[i][read[i]] for i in range(2))
                x, y = case["x"][step].astype("float64"), case["y"][step]
                error = 2 * (x * a * b - y) / 3
                gradients[step] = error * x * b, error * x * a
        for i in range(2):
            version = len(weights[i]) - 1
            if version < steps and case["applied"][i][version] in gradients:
                gradient = gradients[case["applied"][i][version]][i]
                weights[i].append(weights[i][-1] - 0.1 * gradient)
        assert before != (len(weights[0]), len(weights[1])), "the record contradicts itself"
    for i in range(2):
        assert sorted(case["applied"][i]) == list(range(steps))
        np.testing.assert_allclose(case["weights"][i], weights[i][steps], rtol=1e-4, atol=1e-5)
    # Otherwise nothing was asynchronous: some step read a version that was not its own.
    order = {step: version for version, step in enumerate(case["applied"][0])}
    assert any(case["read"][0][step] != order[step] for step in range(steps))
