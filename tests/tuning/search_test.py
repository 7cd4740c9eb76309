"""Searches with a tiny model: in this process, and in real workers."""

import json
import pathlib

import devices
import keras
import numpy as np
import programs
import pytest
import slowness
import tensorflow as tf

import tfdist

WORKER = pathlib.Path(programs.__file__).with_name("search_worker.py")
X = np.random.default_rng(0).normal(size=(32, 2))
Y = X.sum(1)
DATA = {"validation_data": (X, Y), "epochs": 1, "batch_size": 8}


def build(hp):
    units = hp.Int("units", 1, 8)
    if hp.Boolean("fails"):
        raise ValueError("such units do not exist")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dense(1)])
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.SGD(rate), "mse", run_eagerly=True)
    return model


def always_right(hp):
    units = hp.Int("units", 1, 8)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dense(1)])
    # Without replicas four steps are quicker than tracing one.
    eagerly = not tf.distribute.has_strategy()
    model.compile("sgd", "mse", run_eagerly=eagerly)
    return model


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.mark.parametrize(
    ("tuner", "mirrored"),
    [
        ("random", True),
        ("bayesian", False),
        pytest.param("random", False, marks=pytest.mark.slow),
        pytest.param("bayesian", True, marks=pytest.mark.slow),
    ],
)
def test_one_worker(tuner, mirrored, tmp_path):
    strategy = tfdist.MirroredStrategy(devices.PAIR) if mirrored else None
    options = {"tuner": tuner, "strategy": strategy, "directory": tmp_path, "max_trials": 3}
    results = tfdist.tuning.search(always_right, X, Y, **options, **DATA)
    scores = [trial["score"] for trial in results.trials]
    assert len(scores) == 3 and scores == sorted(scores)
    assert all(1 <= trial["hyperparameters"]["units"] <= 8 for trial in results.trials)
    # The trial's weights were kept.
    model = results.best_model()
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(scores[0], rel=1e-5)
    assert getattr(model.distribute_strategy, "num_replicas_in_sync", 1) == 1 + mirrored


def test_hyperband_trains_the_best_for_longer(tmp_path):
    data = {name: value for name, value in DATA.items() if name != "epochs"}
    options = {"tuner": "hyperband", "max_trials": 3, "directory": tmp_path}
    results = tfdist.tuning.search(always_right, X, Y, **options, **data)
    epochs = {trial["hyperparameters"]["tuner/epochs"] for trial in results.trials}
    assert max(epochs) == 3 > min(epochs)


def test_a_trial_that_raises_is_in_the_results(tmp_path):
    results = tfdist.tuning.search(build, X, Y, max_trials=6, directory=tmp_path, **DATA)
    by_failure = {True: [], False: []}
    for trial in results.trials:
        by_failure[trial["hyperparameters"]["fails"]].append(trial)
    assert by_failure[True] and by_failure[False]
    for trial in by_failure[True]:
        assert trial["score"] is None
        assert "such units do not exist" in trial["error"]
    assert all(trial["status"] == "COMPLETED" for trial in by_failure[False])


def test_the_same_call_again_trains_nothing(tmp_path, monkeypatch):
    options = {"directory": tmp_path, "max_trials": 2, **DATA}
    first = tfdist.tuning.search(always_right, X, Y, **options)
    monkeypatch.setattr(keras.Model, "fit", None)
    again = tfdist.tuning.search(always_right, X, Y, **options)
    assert again.to_json() == first.to_json()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"tuner": "grid"}, "tuner is 'grid'; expected one of random, bayesian, hyperband"),
        ({"max_trials": 0}, "max_trials=0"),
        ({"seed": -1}, "seed=-1"),
        ({"build": lambda hp: None}, "returned None; expected a compiled keras.Model"),
        ({"build": lambda hp: keras.Sequential()}, "a model that is not compiled"),
    ],
)
def test_bad_arguments(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        tfdist.tuning.search(**{"build": always_right, "directory": tmp_path, **options})


def test_a_directory_of_another_search(tmp_path):
    options = {"directory": tmp_path, "max_trials": 1, **DATA}
    tfdist.tuning.search(always_right, X, Y, **options)
    with pytest.raises(ValueError, match=r"holds the trials of another search .*objective"):
        tfdist.tuning.search(always_right, X, Y, objective="loss", **options)


def test_an_objective_that_no_trial_reports(tmp_path):
    options = {"directory": tmp_path, "max_trials": 1, **DATA}
    with pytest.raises(RuntimeError, match=r"None of 1 trials ended well.*val_acuracy"):
        tfdist.tuning.search(
            always_right, X, Y, objective=_objective("val_acuracy", "max"), **options
        )


def _objective(name, direction):
    import keras_tuner

    return keras_tuner.Objective(name, direction)


# -- workers ----------------------------------------------------------------------


@pytest.fixture
def start():
    with programs.Programs() as all_programs:
        yield all_programs.start


def said(out, word):
    """The rest of the lines with a word, without the launcher's prefix."""
    return [line.partition(word + " ")[2] for line in out.splitlines() if f"{word} " in line]


@pytest.mark.timeout(180)
# Apart they are in the next test, too.
@pytest.mark.parametrize("how", [pytest.param("apart", marks=pytest.mark.slow), "together"])
def test_two_workers(how, start, tmp_path):
    run = [*programs.RUN, "-n", "2", WORKER, how, tmp_path]
    program = start(run)
    assert program.wait(150) == 0, program.err[-3000:]
    trains = [line.split() for line in said(program.out, "trains")]
    done = dict(line.split(" ", 1) for line in said(program.out, "done"))
    first, second = (json.loads(done[rank]) for rank in "01")
    assert first == second
    assert len(first["trials"]) == 4
    for line in said(program.out, "best"):
        _, mine, theirs = line.split()
        assert float(mine) == pytest.approx(float(theirs), rel=1e-4)
    times = {"apart": 1, "together": 2}[how]
    assert len(trains) == 4 * times
    if how == "together":
        assert [units for rank, units in trains if rank == "0"] == [
            units for rank, units in trains if rank == "1"
        ]


@pytest.mark.timeout(240)
def test_a_killed_search_goes_on_where_it_was(start, tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEP", f"{slowness.seconds(3):.0f}")
    run = [*programs.RUN, "-n", "2", WORKER, "apart", tmp_path]
    program = start(run)
    program.wait_for("trains", times=3)  # one has ended, perhaps two
    program.process.kill()
    program.wait()
    ended = len(_completed(tmp_path))
    assert 1 <= ended <= 2
    monkeypatch.setenv("SLEEP", "0")
    again = start(run)
    assert again.wait(150) == 0, again.err[-3000:]
    assert len(said(again.out, "trains")) == 4 - ended
    done = dict(line.split(" ", 1) for line in said(again.out, "done"))
    assert len(json.loads(done["0"])["trials"]) == 4


def _completed(directory):
    files = pathlib.Path(directory).glob("trials/trial_*/trial.json")
    states = [json.loads(file.read_text()) for file in files]
    return [state for state in states if state["status"] == "COMPLETED"]
