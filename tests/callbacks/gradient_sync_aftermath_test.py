"""What a `fit` with a gradient-sync callback leaves behind, also where it has raised."""

import devices
import keras
import numpy as np
import plain_replicas
import pytest
from gradient_sync_features import FEATURES
from upstream import two_cpus

from tfdist.callbacks import DiLoCo, LocalSGD, PartialSync
from tfdist.compat import strategy as engine


class Stopped(Exception):
    """Ends a `fit` in the middle."""


class StopAt(keras.callbacks.Callback):
    """Raises in a hook, at its second call."""

    def __init__(self, hook):
        super().__init__()
        self.calls = 0
        setattr(self, hook, self._raise)

    def _raise(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 2:
            raise Stopped


def training():
    found = FEATURES["ema"]()
    found.optimizer = lambda: keras.optimizers.Adam(0.02)
    return found


def fit(model, *callbacks, epochs=2):
    arguments = {**training().arguments(), "verbose": 0, "epochs": epochs}
    return model.fit(**arguments, callbacks=list(callbacks)).history


def components(model):
    """Lists of each variable's bits on each replica."""
    return [
        [part.numpy().tobytes() for part in engine.local_components(variable.value)]
        for variable in [*model.variables, *model.optimizer.variables]
    ]


def plainly_from(model):
    """What one process, from the same weights and optimizer, ends with after an epoch."""
    one = training().make()
    one.optimizer.build(one.trainable_variables)
    pairs = zip([*one.variables, *one.optimizer.variables],
                [*model.variables, *model.optimizer.variables], strict=True)  # fmt: skip
    for mine, theirs in pairs:
        mine.assign(theirs.numpy())
    for batch in training().batches():
        one.train_on_batch(*batch)
    return plain_replicas.floats(one)


HOOKS = [None, "on_train_batch_end", "on_epoch_end", "on_train_batch_begin", "on_test_begin"]


@pytest.mark.parametrize(
    ("make", "hook"),
    [(lambda: LocalSGD(3), hook) for hook in HOOKS[:3]]
    + [pytest.param(lambda: LocalSGD(3), hook, marks=pytest.mark.slow) for hook in HOOKS[3:]]
    + [pytest.param(lambda: DiLoCo(4, fragments=2), h, marks=pytest.mark.slow) for h in HOOKS]
    + [pytest.param(lambda: PartialSync(2, 4), h, marks=pytest.mark.slow) for h in HOOKS],
)
def test_the_next_fit_is_plain(make, hook):
    model = training().make(two_cpus())
    if hook is None:
        fit(model, make())
    else:
        arguments = {**training().arguments(), "verbose": 0, "epochs": 3}
        validation = training().arrays
        with pytest.raises(Stopped):
            model.fit(**arguments, validation_data=validation, callbacks=[make(), StopAt(hook)])
    for replicas in components(model):
        assert len(set(replicas)) == 1
    expected = plainly_from(model)
    assert set(fit(model, epochs=1)) == {"loss"}
    for mine, theirs in zip(plain_replicas.floats(model), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)


def test_a_callback_that_is_used_again_begins_anew():
    """No momentum, anchor or count of steps of the first `fit` is left in the second."""

    def two_fits(first, second):
        model = training().make(two_cpus())
        fit(model, first, epochs=1)
        fit(model, second, epochs=1)
        return components(model)

    callback = DiLoCo(3)
    assert two_fits(callback, callback) == two_fits(DiLoCo(3), DiLoCo(3))


def test_a_single_replica_warns_once_and_trains_plainly():
    import tfdist

    one, plain = (training().make(tfdist.MirroredStrategy(devices.PAIR[:1])) for _ in range(2))
    with pytest.warns(UserWarning, match="`DiLoCo`.*on a single replica.*training is plain"):
        history = fit(one, DiLoCo(3), epochs=1)
    assert history == fit(plain, epochs=1)
    assert components(one) == components(plain)
