"""What is trained: the dense net of a seed, and what goes on from it.

Every arm but "dense" begins with the weights of the dense net and trains for the same number of
further epochs, with a cosine decay of its own. Single weights go by a cubic schedule over the
first half of them. Filters go by one over the first epoch; then the model is shrunk, and what is
left of the epochs trains the small one.
"""

import pathlib
import re
import time

import keras
import numpy as np
from macs import macs

import tfdist

compression = tfdist.model_compression
KEPT = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "pruning"  # dense weights
DENSE, AS_LONG = "dense", "dense, trained as long"
WEIGHTS = {  # arm: sparsity, and how `prune` is called
    "80 % magnitude": (0.8, {}),
    "90 % magnitude, global": (0.9, {"allocation": "global"}),
    "90 % random": (0.9, {"criterion": "random"}),
    "90 % magnitude": (0.9, {}),
    "90 % movement": (0.9, {"criterion": "movement"}),
}
FILTERS = "half the MACs"
DISTILLED = "half the MACs, distilled"
STUDENT_WEIGHT = 0.5  # of the labels' loss, beside the teacher's


def trained(net, job, dense_settings):
    """Trains a job; returns its row.

    Args:
        net: module of a net.
        job: dict with "arm", "seed", "tuning" (bool) and "settings".
        dense_settings: dict, those of the dense net that the arm begins with.
    """
    begin = time.perf_counter()
    train, test = net.data(job["tuning"], dense=job["arm"] == DENSE)
    if job["arm"] == DENSE:
        model = _dense(net, job, job["settings"], anew=True)
    else:
        model = _dense(net, job, dense_settings)
        keras.utils.set_random_seed(1000 + job["seed"])
        model = _go_on(net, model, train, **job, **job["settings"])
    # Recompiled: what was distilled has no loss of its own.
    model.compile(loss=_loss(), metrics=["accuracy"])
    loss, accuracy = model.evaluate(*test, batch_size=1000, verbose=0)
    kernels = [
        value.numpy()
        for value in model.trainable_variables
        if value.path.endswith("kernel") and re.search(net.FILTERS or "", value.path)
    ]
    row = {
        **job,
        "epochs": net.DENSE_EPOCHS + (net.MORE_EPOCHS if job["arm"] != DENSE else 0),
        "accuracy": accuracy,
        "loss": loss,
        "zeros": 1 - float(sum(map(np.count_nonzero, kernels)) / sum(one.size for one in kernels)),
        "macs": macs(model),
        "parameters": model.count_params(),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    keras.backend.clear_session()
    return row


def _go_on(net, model, train, arm, rate, temperature=None, **_):
    """The model that an arm makes of a dense one."""
    steps = -(-len(train[0]) // net.BATCH)
    if arm == AS_LONG:
        _fit(net, model, train, net.MORE_EPOCHS, rate)
    elif arm in WEIGHTS:
        sparsity, how = WEIGHTS[arm]
        _compile(model, rate, steps * net.MORE_EPOCHS)
        schedule = compression.Cubic(sparsity, begin=0, end=steps * net.MORE_EPOCHS // 2)
        pruning = compression.prune(model, schedule=schedule, filters=net.FILTERS, **how)
        _fit(net, model, train, net.MORE_EPOCHS, rate=None, callbacks=[pruning])
    else:
        teacher = keras.models.clone_model(model)
        teacher.set_weights(model.get_weights())
        _compile(model, rate)
        schedule = compression.Cubic(net.FILTER_SPARSITY, begin=0, end=int(0.9 * steps))
        pruning = compression.prune(model, criterion="l2", structure="filter", schedule=schedule)
        _fit(net, model, train, 1, rate=None, callbacks=[pruning])
        model = small = compression.shrink(model)
        if arm == DISTILLED:
            small = keras.distillation.Distiller(
                teacher,
                model,
                keras.distillation.LogitsDistillation(temperature=temperature),
                student_loss_weight=STUDENT_WEIGHT,
            )
        _fit(net, small, train, net.MORE_EPOCHS - 1, rate)
    return model


def _dense(net, job, settings, anew=False):
    """The dense net of a seed, kept from an earlier run, or trained; with the dropout of a job."""
    keras.utils.set_random_seed(job["seed"])
    said = "-".join(f"{name}-{value}" for name, value in settings.items())
    stage = "tuning" if job["tuning"] else "final"
    path = KEPT / f"{net.__name__}-{job['seed']}-{stage}-{said}.npz"
    if anew or not path.exists():
        model = _built(net, settings)
        train, _ = net.data(job["tuning"], dense=True)
        _fit(net, model, train, net.DENSE_EPOCHS, settings["rate"])
        KEPT.mkdir(parents=True, exist_ok=True)
        np.savez(path, *model.get_weights())
    with np.load(path) as kept:
        weights = [kept[name] for name in kept.files]
    model = _built(net, job["settings"])
    model.set_weights(weights)
    return model


def _built(net, settings):
    return net.build(**{name: settings[name] for name in settings if name == "dropout"})


def _loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _compile(model, rate, steps=None):
    """With Adam at a rate that decays to 0 over `steps`, or stays."""
    rate = keras.optimizers.schedules.CosineDecay(rate, steps) if steps else rate
    model.compile(keras.optimizers.Adam(rate), _loss(), metrics=["accuracy"])


def _fit(net, model, train, epochs, rate, callbacks=()):
    """Trains; `rate=None`: as it is compiled."""
    if rate is not None:
        _compile(model, rate, -(-len(train[0]) // net.BATCH) * epochs)
    callbacks = list(callbacks)
    model.fit(*train, batch_size=net.BATCH, epochs=epochs, callbacks=callbacks, verbose=0)
