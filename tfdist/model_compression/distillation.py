"""A student that learns from a teacher, a thin model around both.

Keras has a `Distiller`, too, which gives the same numbers on replicas as in one process. This one
compares layers of different widths, as they are where channels have been removed; runs the
student once a step; leaves the moving statistics of the student alone in `evaluate`; and leaves
the teacher as it was (Keras' freezes it). What is learnt from the teacher is `add_loss`, so the
compiled loss keeps its weights, masks and metrics.

Limits: one output. The teacher's part of the loss is a mean over all examples and positions: it
knows no `sample_weight` and no masks.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfdist.compat.layers import input_structure


class Distiller(keras.Model):
    """Trains `student` with the compiled loss, and with what `teacher` says of the same inputs.

    The loss of a step is the compiled one, plus `distillation_weight` times T^2 KL(teacher,
    student) of the outputs softened by the temperature T, plus `feature_weight` times the mean
    squared difference of the layers in `features`. `evaluate` and `predict` are the student's
    alone. Save `distiller.student`: it is an ordinary model, trained in place.

    Example:

    >>> import keras, numpy, tfdist
    >>> def network(width):
    ...     hidden = keras.layers.Dense(width, activation="relu", name="hidden")
    ...     return keras.Sequential([keras.Input((8,)), hidden, keras.layers.Dense(3)])
    >>> with tfdist.auto_strategy().scope():
    ...     teacher, student = network(32), network(4)
    ...     distiller = tfdist.model_compression.Distiller(
    ...         teacher, student, temperature=2.0, features={"hidden": "hidden"}
    ...     )
    ...     loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ...     distiller.compile("adam", loss, metrics=["accuracy"])
    >>> x, y = numpy.ones((16, 8)), numpy.zeros(16)
    >>> sorted(distiller.fit(x, y, verbose=0).history)
    ['accuracy', 'loss']

    Args:
        teacher: a built Keras model whose output is logits. It is read, never changed.
        student: another one with the same inputs and the same shape of output.
        temperature: float, T; higher ones show more of what the teacher thinks of wrong classes.
        distillation_weight: float, of the teacher's part; 0 leaves it out.
        features: dict of a layer's name in the teacher to one in the student, whose outputs are
            compared; both models functional or sequential. Where their last axes differ, the
            student's goes through a matrix that is learnt with it and then forgotten.
        feature_weight: float.

    Raises:
        ValueError: outputs or layers that cannot be compared; an output that is no logits.

    Reference:
        Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531;
        Romero et al., "FitNets: Hints for Thin Deep Nets", arXiv 1412.6550.
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        temperature: float = 3.0,
        distillation_weight: float = 1.0,
        features: dict[str, str] | None = None,
        feature_weight: float = 1.0,
        name: str = "distiller",
    ) -> None:
        super().__init__(name=name)
        if not temperature > 0:
            raise ValueError(f"temperature={temperature!r}: expected a number above 0.")
        for role, model in (("teacher", teacher), ("student", student)):
            _check_logits(role, model)
        self.student = student
        self.temperature = temperature
        self.distillation_weight, self.feature_weight = distillation_weight, feature_weight
        features = features or {}
        # Beside Keras: what it finds here it would train, save and count.
        self._models = _Untracked(
            teacher=_with_layers("teacher", teacher, list(features)),
            student=_with_layers("student", student, list(features.values())),
        )
        self.projections = [
            _projection(pair, *(_layer(model, name) for model, name in zip(models, pair)))
            for models in [(teacher, student)]
            for pair in features.items()
        ]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training:
            return self.student(inputs, training=False)
        said, *hints = self._models.teacher(inputs, training=False)
        output, *found = self._models.student(inputs, training=True)
        if said.shape[1:] != output.shape[1:]:
            raise ValueError(
                f"The teacher's output has the shape {tuple(said.shape)}, the student's "
                f"{tuple(output.shape)}: expected the same."
            )
        if self.distillation_weight:
            self.add_loss(self.distillation_weight * self._divergence(said, output))
        for hint, value, projection in zip(hints, found, self.projections):
            value = value if projection is None else projection(value)
            difference = _wide(value) - ops.stop_gradient(_wide(hint))
            self.add_loss(self.feature_weight * ops.mean(ops.square(difference)))
        return output

    def _divergence(self, said, output):
        """T^2 KL of the softened outputs: its gradient has the size of the compiled loss's."""
        aim = ops.log_softmax(ops.stop_gradient(_wide(said)) / self.temperature)
        soft = ops.log_softmax(_wide(output) / self.temperature)
        return self.temperature**2 * ops.mean(ops.sum(ops.exp(aim) * (aim - soft), axis=-1))


class _Untracked:
    """Models that are no part of the one that holds them."""

    def __init__(self, teacher: Any, student: Any) -> None:
        self.teacher, self.student = teacher, student


def _check_logits(role, model):
    last = model.layers[-1] if model.layers else None
    probabilities = (keras.activations.softmax, keras.activations.sigmoid)
    activation = getattr(last, "activation", None)
    if activation in probabilities or isinstance(last, keras.layers.Softmax):
        raise ValueError(
            f"The {role} {model.name!r} ends with {last.name!r}, which gives probabilities: "
            "expected logits, since a temperature divides them. Leave the activation out, and "
            "compile with a loss of `from_logits=True`."
        )


def _with_layers(role, model, names):
    """A function of inputs that gives a list: the output, and those of the named layers."""
    if not names:
        return lambda inputs, training: [model(inputs, training=training)]
    outputs = [*model.outputs, *(_layer(model, name, role).output for name in names)]
    return keras.Model(input_structure(model), outputs)


def _layer(model, name, role="model"):
    if getattr(model, "inputs", None) is None:
        raise ValueError(
            f"The {role} {model.name!r} is subclassed: expected a functional or sequential model "
            "for `features`. Without them any model will do."
        )
    try:
        return model.get_layer(name)
    except ValueError as error:
        names = ", ".join(repr(layer.name) for layer in model.layers)
        raise ValueError(
            f"features: the {role} {model.name!r} has no layer {name!r}: expected one of {names}."
        ) from error


def _projection(pair, of_teacher, of_student):
    """The matrix from a layer of the student to one of the teacher; None where widths agree."""
    wide, narrow = of_teacher.output.shape, of_student.output.shape
    if wide[1:-1] != narrow[1:-1]:
        raise ValueError(
            f"features: {pair[0]!r} of the teacher has outputs of the shape {tuple(wide)}, "
            f"{pair[1]!r} of the student {tuple(narrow)}: expected shapes that differ in the "
            "last axis at most."
        )
    if wide[-1] == narrow[-1]:
        return None
    projection = keras.layers.Dense(wide[-1], use_bias=False, name=f"{pair[1]}_projection")
    projection.build(narrow)
    return projection


def _wide(tensor):
    """In float32 at least: half precision would lose small probabilities."""
    half = keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16")
    return ops.cast(tensor, "float32") if half else tensor
