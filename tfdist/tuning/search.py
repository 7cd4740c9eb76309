"""A search for hyper-parameters, by KerasTuner: on one worker, or on several at once."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from tfdist import cluster_info, tf_config
from tfdist.arguments import integer
from tfdist.strategies.single import answering
from tfdist.tuning.oracle_service import OracleService, environment
from tfdist.tuning.results import SearchResults

if TYPE_CHECKING:
    import keras_tuner
    import tensorflow as tf

_TUNERS = {"random": "RandomSearch", "bayesian": "BayesianOptimization", "hyperband": "Hyperband"}
_PROJECT = "trials"


def search(
    build: Callable[[keras_tuner.HyperParameters], keras.Model],
    x: Any = None,
    y: Any = None,
    *,
    objective: str | keras_tuner.Objective = "val_loss",
    max_trials: int = 10,
    tuner: str = "random",
    directory: str | os.PathLike[str] = "search",
    strategy: tf.distribute.Strategy | None = None,
    seed: int = 0,
    verbose: int = 0,
    **fit: Any,
) -> SearchResults:
    """Searches for the hyper-parameters that train the best model.

    ```python
    def build(hp):
        units = hp.Int("units", 16, 128, step=16)
        model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(1)])
        rate = hp.Float("rate", 1e-4, 1e-1, sampling="log")
        model.compile(keras.optimizers.Adam(rate), "mse")
        return model

    results = tfdist.tuning.search(
        build, x, y, validation_data=(x_validation, y_validation), epochs=5, max_trials=10
    )
    print(results)
    model = results.best_model()
    ```

    - On one worker trials run one after the other, each in the scope of `strategy`.
    - Under `tfdist run -n 4` without a strategy each worker runs trials of its own, and all ask
      one oracle which to try next. `directory` must be one that all workers see.
    - Under `tfdist run` with a `tfdist.MultiWorkerMirroredStrategy` all workers train each
      trial together.

    A tuner of KerasTuner's own works under a `tfdist.MultiWorkerMirroredStrategy`, too, if all
    workers give it the same `seed`, so that they try the same, and the same `directory`, on a
    disk that all see: the chief alone writes models, and a worker with a directory of its own
    finds none there.

    Each way returns the same on all workers. Ended trials are kept in `directory`: the same
    call again, after a crash or a kill, runs those that are missing. A trial that raises is
    in the results with its error; three in a row end the search.

    Args:
        build: function of a `keras_tuner.HyperParameters` that returns a compiled Keras model.
        x, y: data for `fit`.
        objective: str; the log to compare, such as `"val_loss"`, `"val_accuracy"`; or a
            `keras_tuner.Objective` with its direction.
        max_trials: int. Of `"hyperband"`: how many epochs the longest trial has at most.
        tuner: `"random"`, `"bayesian"` or `"hyperband"`.
        directory: str; where trials are kept.
        strategy: a strategy of this process, a `tfdist.MultiWorkerMirroredStrategy` or None.
        seed: int; of the choice of hyper-parameters.
        verbose: 0 or 1, for the search and each `fit`.
        **fit: other arguments of `model.fit`.

    Returns:
        `tfdist.tuning.SearchResults`.

    Raises:
        ImportError: KerasTuner is not installed.
        ValueError: arguments out of range; `build` returns no compiled model; `directory` holds
            the trials of another search.
        RuntimeError: no trial ended well; the first one's error is in the text.
        TimeoutError: another worker does not answer; the error names it.
    """
    try:
        import keras_tuner
    except ImportError as error:
        raise ImportError(
            'A search needs KerasTuner: pip install "tfdist[tuner]" brings it.'
        ) from error
    if tuner not in _TUNERS:
        raise ValueError(f"tuner is {tuner!r}; expected one of {', '.join(_TUNERS)}.")
    max_trials = integer("max_trials", max_trials, least=1)
    seed = integer("seed", seed, least=0)
    directory = pathlib.Path(directory).absolute()
    space = _space(keras_tuner, build)
    together = answering(strategy).num_workers > 1
    cluster = tf_config.from_environment()
    apart = len(cluster.addresses) > 1 and not together

    def make_tuner(where=directory):  # reads what is there, while nobody writes
        limit = "max_epochs" if tuner == "hyperband" else "max_trials"
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it reloads
            return getattr(keras_tuner, _TUNERS[tuner])(
                build,
                objective=objective,
                seed=seed + 1,  # KerasTuner takes 0 for none
                directory=str(where),
                project_name=_PROJECT,
                distribution_strategy=strategy,
                **{limit: max_trials},
            )

    def run(one):
        one.search(x, y, verbose=verbose, **fit)
        return one

    facts = {"tuner": tuner, "objective": str(objective), "space": space, "seed": seed}
    if not together or cluster_info.is_chief():
        _claim(directory, facts, first=not apart or cluster.index == 0)
    if apart:
        return _results(*_search_apart(directory, cluster, make_tuner, run))
    done = _search_together(directory, make_tuner, run) if together else run(make_tuner())
    return _results(done, _states(done.oracle))


def _search_apart(directory, cluster, make_tuner, run):
    with OracleService(directory, cluster) as service:
        chief = service.serve(make_tuner) if cluster.index == 0 else None
        with environment(f"tuner{cluster.index}", *service.find()):
            mine = run(make_tuner())
        service.done()
        if chief is not None:
            service.wait_for_all()
            service.publish(_states(chief.oracle))
        return mine, service.read()


def _search_together(directory, make_tuner, run):
    """All workers walk through the same trials, each with an oracle of its own and one seed.

    They see the same objectives to the last bit, so their oracles choose alike.
    """
    with contextlib.ExitStack() as stack:
        mine = directory
        if not cluster_info.is_chief():
            mine = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if (directory / _PROJECT).exists():
                shutil.copytree(directory / _PROJECT, mine / _PROJECT)
        cluster_info.barrier("the trials so far are copied")
        done = run(make_tuner(mine))
    done.directory = str(directory)  # where the chief keeps the models
    cluster_info.barrier("the trials have ended")
    return done


def _space(keras_tuner, build):
    """The hyper-parameters of `build` as JSON values, after a look at what it returns."""
    hyperparameters = keras_tuner.HyperParameters()
    model = build(hyperparameters)
    if not isinstance(model, keras.Model) or not model.compiled:
        what = "a model that is not compiled" if isinstance(model, keras.Model) else repr(model)
        raise ValueError(f"build(hp) returned {what}; expected a compiled keras.Model.")
    return json.loads(json.dumps([one.get_config() for one in hyperparameters.space], default=str))


def _claim(directory, facts, first):
    """Notes in `directory` what is searched there; refuses it where that is something else."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "search.json"
    if not path.exists():
        if first:
            partial = directory / ".search.json"
            partial.write_text(json.dumps(facts))
            partial.replace(path)
        return
    there = json.loads(path.read_text())
    differ = [name for name, value in facts.items() if there.get(name) != value]
    if differ:
        lines = [f"{name}: {there.get(name)} there, {facts[name]} here" for name in differ]
        raise ValueError(
            f"{directory} holds the trials of another search ({'; '.join(lines)}). "
            "Pass another directory, or remove it."
        )


def _states(oracle):
    """What is known of each trial, as JSON values."""
    return [trial.get_state() for trial in oracle.trials.values()]


def _results(tuner, states):
    from keras_tuner.engine import trial as keras_tuner_trial

    objective = tuner.oracle.objective
    trials = {state["trial_id"]: keras_tuner_trial.Trial.from_state(state) for state in states}
    found = []
    for name, trial in trials.items():
        error = (trial.message or "").strip().splitlines()
        completed = trial.status == "COMPLETED"
        found.append(
            {
                "trial": name,
                "status": trial.status,
                "score": float(trial.score) if completed and trial.score is not None else None,
                "epoch": trial.best_step,
                "hyperparameters": dict(trial.hyperparameters.values),
                "error": error[-1] if error else None,
            }
        )
    if not any(trial["status"] == "COMPLETED" for trial in found):
        why = next((trial["error"] for trial in found if trial["error"]), "no trial was run")
        raise RuntimeError(f"None of {len(found)} trials ended well. The first one: {why}")
    return SearchResults(
        objective.name,
        objective.direction,
        found,
        lambda name: _load(tuner, trials[name]),
    )


def _load(tuner, trial):
    with warnings.catch_warnings():
        # KerasTuner loads weights into a new model, whose optimizer has no slots yet.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        return tuner.load_model(trial)
