"""Trains a character language model with each way to agree, one after the other.

Usage: `tfdist run -n N convergence_side.py JOBS`, where JOBS is a JSON list of objects
with "side", "seed", "rate", "steps" and "pretrained" (how many synchronous steps went
before, whose model all sides of a seed share); the chief prints a JSON line a job.
"""

import json
import sys
import time

import keras
import settings
import sides

import tfdist

# Smaller than the model of `slow_link.py`: what counts here is the number of steps.
settings.LAYERS, settings.HEADS, settings.WIDTH, settings.BLOCK = 2, 4, 64, 48
settings.BATCH, settings.VALIDATION = 12, 512

import keras_side  # noqa: E402 (it reads the settings)

PRETRAINING_RATE = 4e-3
_pretrained = {}  # (seed, steps): weights


def train(strategy, job):
    before = (job["seed"], job["pretrained"])
    if job["pretrained"] and before not in _pretrained:
        # The tokens of another seed: those of the comparison are new to the model.
        plain = {**job, "side": "synchronous", "rate": PRETRAINING_RATE, "alpha": 1.0}
        plain |= {"steps": job["pretrained"], "pretrained": 0, "data seed": job["seed"] + 1000}
        _, model = fit(strategy, plain)
        _pretrained[before] = model.get_weights()
    return fit(strategy, job, _pretrained.get(before))[0]


def fit(strategy, job, weights=None):
    """Returns the row of a job, and its model."""
    keras.utils.set_random_seed(job["seed"])
    workers, steps = tfdist.world_size(), job["steps"]
    (x, y), validation, vocabulary = settings.data(
        steps, workers, job.get("data seed", job["seed"])
    )
    with strategy.scope():
        model = keras_side.build(vocabulary, job["seed"])
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            steps,
            alpha=job.get("alpha", 0.1),
            warmup_target=job["rate"],
            warmup_steps=settings.WARM_UP_STEPS,
        )
        optimizer = keras.optimizers.Adam(
            rate, settings.BETA_1, settings.BETA_2, settings.EPSILON, global_clipnorm=1.0
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
        if weights is not None:
            model.set_weights(weights)
    begin = time.perf_counter()
    history = model.fit(
        x,
        y,
        batch_size=settings.BATCH * workers,
        steps_per_epoch=steps // 10,
        epochs=10,
        shuffle=False,
        validation_data=validation,
        validation_batch_size=256,
        callbacks=sides.callbacks(job["side"]),
        verbose=0,
    ).history
    row = {
        **job,
        "workers": workers,
        "loss": history["val_loss"][-1],
        "losses": [round(float(loss), 4) for loss in history["val_loss"]],
        "bytes": float(history.get("sync_bytes", [float("nan")])[-1]),
        "seconds": round(time.perf_counter() - begin, 1),
        "parameters": model.count_params(),
    }
    return row, model


if __name__ == "__main__":
    strategy = tfdist.auto_strategy()
    for job in json.loads(sys.argv[1]):
        found = train(strategy, job)
        if tfdist.is_chief():
            print("RESULT " + json.dumps(found), flush=True)
    tfdist.barrier("done")
