"""The order behind the update, on one replica and on two, with and without an algorithm."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

import tfdist
from tfdist.callbacks import LocalSGD, SyncSGD
from tfdist.sync.after_update import AfterUpdate


def test_links_run_by_kind_and_leave_again():
    chain, ran = AfterUpdate(), []

    def link(name):
        return lambda communicator, agreed: ran.append((name, communicator, agreed))

    with chain.linked("observers", link("o")), chain.linked("masks", link("m")):
        with chain.linked("averages", link("a")), chain.linked("masks", link("second m")):
            chain.run("communicator", True)
        assert [name for name, *_ in ran] == ["m", "second m", "a", "o"]
        assert all(rest == ["communicator", True] for _, *rest in ran)
        ran.clear()
        chain.run(None, False)
    assert ran == [("m", None, False), ("o", None, False)]


def test_a_kind_that_there_is_not():
    with pytest.raises(ValueError, match="kind='constraints': expected one of 'masks', "):
        with AfterUpdate().linked("constraints", print):
            pass


@pytest.mark.parametrize(
    ("strategy", "callback", "agreed"),
    [
        (lambda: tfdist.MirroredStrategy(["CPU:0"]), None, 4),
        (two_cpus, None, 4),
        (two_cpus, SyncSGD, 4),
        (two_cpus, lambda: LocalSGD(2), 2),
    ],
    ids=["one replica", "two", "SyncSGD", "LocalSGD"],
)
def test_a_mask_holds_behind_every_step_and_may_change_where_replicas_agree(
    strategy, callback, agreed
):
    strategy = strategy()
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        times = tf.Variable(0, aggregation=tf.VariableAggregation.NONE)
    kernel, seen = model.layers[0].kernel, []
    mask = tf.constant([[0.0, 1.0]] * 3)

    def link(communicator, agreed):
        kernel.value.assign(kernel.value * mask)
        times.assign_add(tf.cast(agreed, tf.int32))

    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(kernel.numpy())
    )
    callbacks = [look, callback()] if callback else [look]
    x, y = np.random.default_rng(0).normal(size=(2, 16, 3)).astype("float32")
    with strategy.after_update(model).linked("masks", link):
        model.fit(x, y[:, :2], 4, verbose=0, callbacks=callbacks)
    for value in seen:
        assert not value[:, 0].any() and value[:, 1].all()
    parts = getattr(times, "values", (times,))
    assert [int(part) for part in parts] == [agreed] * len(parts)
