"""Two real workers prune alike, to the numbers of one process."""

import sys

import cloudpickle
import numpy as np
import pytest

import tfdist

cloudpickle.register_pickle_by_value(sys.modules[__name__])

PLAIN = ["plain", "taylor", "movement"]  # gradients are reduced in each step


def train(ways):
    """For each way: the weights, the zeros of the kernels behind each step, and the scores."""
    import keras

    import tfdist

    compression, callbacks = tfdist.model_compression, tfdist.callbacks
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 6)), random.normal(size=(60, 3))
    strategy, found = tfdist.auto_strategy(), {}
    for way in ways:
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = keras.Sequential(
                [keras.Input((6,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
            )
            model.compile(keras.optimizers.Adam(0.01), "mse")
        schedule = compression.Cubic(final=0.75, begin=2, end=10, frequency=2)
        criterion = way if way in ("taylor", "movement") else "magnitude"
        pruning = compression.prune(model, criterion, schedule=schedule, allocation="global")
        seen = []

        class Watch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None, model=model, seen=seen):
                seen.append(sum(int(np.sum(w == 0)) for w in model.get_weights()[::2]))

        sync = {"DiLoCo": callbacks.DiLoCo(4), "LocalSGD": callbacks.LocalSGD(4)}
        also = [sync[way]] if way in sync else []
        model.fit(x, y, 8, epochs=2, verbose=0, shuffle=False, callbacks=[pruning, *also, Watch()])
        found[way] = model.get_weights(), seen, pruning.get_state()["criterion"]
    return found


@pytest.fixture(scope="module")
def workers():
    return tfdist.run(train, workers=2, args=([*PLAIN, "DiLoCo", "LocalSGD"],), timeout=240)


def test_they_train_the_same_pruned_model_as_one_process(workers):
    (alone,) = tfdist.run(train, workers=1, args=(PLAIN,), timeout=120)
    for worker in workers:
        for way in PLAIN:
            weights, seen, scores = alone[way]
            assert worker[way][1] == seen
            for one, other in zip(worker[way][0], weights):
                np.testing.assert_array_equal(one == 0, other == 0)
                np.testing.assert_allclose(one, other, atol=1e-9)
            for one, other in zip(worker[way][2], scores, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("way", [*PLAIN, "DiLoCo", "LocalSGD"])
def test_all_workers_end_with_the_same_bits(workers, way):
    for one, other in zip(*(worker[way][0] for worker in workers)):
        np.testing.assert_array_equal(one, other)
    assert sum(int(np.sum(kernel == 0)) for kernel in workers[0][way][0][::2]) == 108


@pytest.mark.parametrize("way", ["DiLoCo", "LocalSGD"])
def test_local_methods_change_masks_at_a_synchronisation_only(workers, way):
    for worker in workers:
        seen = worker[way][1]
        changed = [step for step in range(1, 16) if seen[step] != seen[step - 1]]
        assert [step + 1 for step in changed] == [4, 8, 12]
