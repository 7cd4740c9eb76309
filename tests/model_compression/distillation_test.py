"""Keras' own `Distiller` and ours on replicas: the numbers of one process, and masks that hold."""

import contextlib
import functools
import sys

import cloudpickle
import devices
import keras
import numpy as np
import pytest
from keras import layers

import tfdist
from tfdist import model_compression as compression

cloudpickle.register_pickle_by_value(sys.modules[__name__])

QUICK, SLOW = ("ours with features", "Keras"), ("ours", "Keras with features")
WAYS = [*QUICK, *(pytest.param(way, marks=pytest.mark.slow) for way in SLOW)]
ROWS, BATCH = 23, 5  # the last batch has three; two replicas get 3 and 2, then 2 and 1


@contextlib.contextmanager
def float64():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


@pytest.fixture(autouse=True)
def in_float64():
    with float64():
        yield


def data():
    random = np.random.default_rng(0)
    return random.normal(size=(ROWS, 6)), random.integers(0, 3, ROWS)


def network(width, name):
    stack = [
        keras.Input((6,)),
        layers.Dense(width, "relu", name="hidden"),
        layers.BatchNormalization(synchronized=True, name="normalization"),
        layers.Dense(8, "tanh", name="features"),
        layers.Dense(3, name="logits"),
    ]
    return keras.Sequential(stack, name=name)


def distiller_of(way="Keras"):
    """A teacher that has seen some data, and a smaller student; call it in a scope."""
    keras.utils.set_random_seed(1)
    teacher, student = network(16, "teacher"), network(6, "student")
    statistics = teacher.get_layer("normalization")
    statistics.moving_mean.assign(np.linspace(-1, 1, 16))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if way.startswith("ours"):
        features = {"hidden": "hidden", "features": "features"} if "features" in way else None
        distiller = compression.Distiller(teacher, student, 2.0, 0.7, features, 0.5)
    else:
        losses = [keras.distillation.LogitsDistillation(2.0, keras.losses.KLDivergence())]
        if "features" in way:
            losses.append(keras.distillation.FeatureDistillation("mse", "features", "features"))
        distiller = keras.distillation.Distiller(teacher, student, losses, student_loss_weight=0.3)
    distiller.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return distiller, teacher


def fit(distiller, *callbacks, epochs=2):
    x, y = data()
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
    return distiller.fit(x, y, epochs=epochs, **options).history


def train(ways, make_strategy=None):
    """Of each way: the student's weights, the logs, and whether the teacher stayed as it was."""
    found, (x, y) = {}, data()
    for way in ways:
        with float64(), make_strategy().scope() if make_strategy else contextlib.nullcontext():
            distiller, teacher = distiller_of(way)
            before = teacher.get_weights()
        with float64():
            history = fit(distiller)
            evaluated = distiller.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
        same = [np.array_equal(*pair) for pair in zip(before, teacher.get_weights())]
        found[way] = distiller.student.get_weights(), history, evaluated, all(same)
    return found


@functools.cache
def in_one_process(way):
    return train([way])[way]


@functools.cache
def on_two_workers(ways):
    return tfdist.run(train, workers=2, args=(ways, tfdist.auto_strategy), timeout=240)


def assert_same(found, expected):
    for one, other in zip(found[0], expected[0]):
        np.testing.assert_allclose(one, other, atol=1e-9)
    for logs, of_one in zip(found[1:3], expected[1:3]):
        assert {*logs} == {*of_one} >= {"loss", "accuracy"}
        for name in of_one:
            np.testing.assert_allclose(logs[name], of_one[name], atol=1e-9, err_msg=name)
    assert found[3] and expected[3]  # the teacher's moving statistics, too


@pytest.mark.parametrize("way", WAYS)
def test_two_replicas(way):
    found = train([way], lambda: tfdist.MirroredStrategy(devices.PAIR))
    assert_same(found[way], in_one_process(way))


@pytest.mark.parametrize("way", WAYS)
def test_two_workers(way):
    for worker in on_two_workers(QUICK if way in QUICK else SLOW):
        assert_same(worker[way], in_one_process(way))


def test_the_losses_are_the_papers():
    """1503.02531: the student's own loss, and T^2 times that of the softened outputs."""
    (distiller, teacher), (x, y) = distiller_of(), data()
    ours, _ = distiller_of("ours")
    logits, of_teacher = (
        np.asarray(model(x, training=False)) for model in (distiller.student, teacher)
    )

    def log_softmax(z):
        z = z - z.max(-1, keepdims=True)
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    own = -log_softmax(logits)[np.arange(ROWS), y].mean()
    soft, aim = log_softmax(logits / 2.0), log_softmax(of_teacher / 2.0)
    distilled = 2.0**2 * (np.exp(aim) * (aim - soft)).sum(-1).mean()
    found = distiller.evaluate(x, y, batch_size=ROWS, verbose=0, return_dict=True)
    assert found["student_loss"] == pytest.approx(own, abs=1e-6)
    assert found["distillation_loss"] == pytest.approx(distilled, abs=1e-5)  # clipped at 1e-7
    assert found["loss"] == pytest.approx(0.3 * own + 0.7 * distilled, abs=1e-5)
    assert ours.evaluate(x, y, ROWS, verbose=0)[0] == pytest.approx(own, abs=1e-6)
    ours.student.get_layer("normalization").trainable = False  # as in a prediction
    ours(x, training=True)
    (term,) = ours.losses
    assert float(term) == pytest.approx(0.7 * distilled, abs=1e-12)


def test_the_name_of_the_divergence_is_still_another_loss_in_keras():
    """The how-to says to pass the object; where this fails, the name has come to mean it."""
    logits = np.random.default_rng(0).normal(size=(2, 4, 3))
    by_name, by_object = (
        float(keras.distillation.LogitsDistillation(2.0, loss).compute_loss(*logits))
        for loss in ("kl_divergence", keras.losses.KLDivergence())
    )
    assert abs(by_name - by_object) > 0.1 * by_object


SCOPES = {
    "no strategy": contextlib.nullcontext,
    "two replicas": lambda: tfdist.MirroredStrategy(devices.PAIR).scope(),
}


class Watch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(zeros(self.model.student))


def zeros(model):
    return sum(int(np.sum(w == 0)) for w in model.get_weights() if w.ndim == 2)


@pytest.mark.parametrize("way", ["ours with features", "Keras"])
@pytest.mark.parametrize("where", SCOPES)
def test_a_student_is_pruned_while_it_learns(where, way, tmp_path):
    with SCOPES[where]():
        distiller, teacher = distiller_of(way)
    student, watch = distiller.student, Watch()
    pruning = compression.prune(student, schedule=compression.Constant(final=0.5, begin=3))
    before = teacher.get_weights()
    fit(distiller, pruning, watch, epochs=1)
    half = (6 * 6 + 6 * 8 + 8 * 3) // 2
    assert watch.seen == [0, 0, half, half, half]
    assert pruning.report().parameters == student.count_params()
    fit(distiller, watch, epochs=1)  # without the callback
    assert watch.seen[5:] == [half] * 5
    for one, other in zip(before, teacher.get_weights()):
        np.testing.assert_array_equal(one, other)
    student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    assert type(loaded) is keras.Sequential and zeros(loaded) == half
    x, _ = data()
    np.testing.assert_allclose(loaded.predict(x, verbose=0), student.predict(x, verbose=0))


def test_a_step_that_was_made_before_the_masks_is_made_again():
    for where in SCOPES.values():
        with where():
            distiller, _ = distiller_of()
        fit(distiller, epochs=1)
        kernel = distiller.student.get_layer("hidden").kernel
        kernel.assign(kernel.numpy() * (np.arange(6) % 2)[:, None])
        compression.prune(distiller.student)
        fit(distiller, epochs=1)
        assert zeros(distiller.student) == 18


def test_prune_of_the_distiller_leaves_the_teacher_alone():
    distiller, teacher = distiller_of()
    distiller.build((None, 6))
    pruning = compression.prune(distiller, schedule=compression.Constant(final=0.5))
    fit(distiller, pruning, epochs=1)
    assert zeros(distiller.student) == 54 and zeros(teacher) == 0
    skipped = {one.name: one.reason for one in pruning.report().skipped}
    assert skipped["teacher/hidden"] == "it is not trainable"


def test_the_callback_of_another_model():
    (distiller, _), other = distiller_of(), network(6, "other")
    pruning = compression.prune(other, schedule=compression.Constant(final=0.5))
    with pytest.raises(ValueError, match=r"made for the model 'other'.* inside of it"):
        fit(distiller, pruning)


def test_features_are_those_of_the_papers():
    """1412.6550: the mean squared difference, through a matrix where widths differ."""
    (distiller, teacher), (x, _) = distiller_of("ours with features"), data()
    student = distiller.student
    student.get_layer("normalization").trainable = False
    distiller(x, training=True)

    def output(model, name):
        return np.asarray(keras.Model(model.inputs, model.get_layer(name).output)([x]))

    projection, none = distiller.projections
    assert none is None and tuple(projection.kernel.shape) == (6, 16)
    through = output(student, "hidden") @ projection.kernel.numpy()
    expected = [
        0.5 * np.mean((through - output(teacher, "hidden")) ** 2),
        0.5 * np.mean((output(student, "features") - output(teacher, "features")) ** 2),
    ]
    np.testing.assert_allclose([float(one) for one in distiller.losses[1:]], expected, rtol=1e-12)


def test_neither_evaluate_nor_the_teacher_changes_anything():
    (distiller, teacher), (x, y) = distiller_of("ours with features"), data()
    before, names = distiller.student.get_weights(), {v.path for v in distiller.variables}
    distiller.evaluate(x, y, verbose=0)
    for one, other in zip(before, distiller.student.get_weights()):
        np.testing.assert_array_equal(one, other)
    assert teacher.trainable and not any("teacher" in name for name in names)
    assert len(distiller.trainable_variables) == len(distiller.student.trainable_variables) + 1


def test_a_subclassed_student_learns_from_the_teacher_alone():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    keras.utils.set_random_seed(1)
    x, _ = data()
    teacher, student = Own(), Own()
    assert teacher(x).shape == student(x).shape
    distiller = compression.Distiller(teacher, student, distillation_weight=10.0)
    distiller.compile(keras.optimizers.SGD(0.1))  # the teacher alone

    def apart():
        one, other = (keras.ops.softmax(model(x)) for model in (teacher, student))
        return float(np.abs(one - other).mean())

    first = apart()
    fit(distiller, epochs=20)
    assert apart() < 0.5 * first


def test_bad_input():
    teacher, student = network(16, "teacher"), network(6, "student")
    chances = keras.Sequential([keras.Input((6,)), layers.Dense(3, "softmax", name="end")])
    with pytest.raises(ValueError, match=r"student .* ends with 'end', which gives probabilities"):
        compression.Distiller(teacher, chances)
    with pytest.raises(ValueError, match="temperature=0: expected a number above 0"):
        compression.Distiller(teacher, student, 0)
    with pytest.raises(ValueError, match="teacher 'teacher' has no layer 'x': expected one of"):
        compression.Distiller(teacher, student, features={"x": "hidden"})
    rows = keras.Sequential([keras.Input((6,)), layers.Reshape((2, 3), name="rows")])
    with pytest.raises(ValueError, match="expected shapes that differ in the last axis at most"):
        compression.Distiller(teacher, rows, features={"hidden": "rows"})
    distiller = compression.Distiller(teacher, rows)
    distiller.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"the student's .*: expected the same"):
        distiller(np.zeros((2, 6)), training=True)
