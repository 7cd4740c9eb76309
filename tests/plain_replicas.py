"""Replicas that are plain Keras models in one process, and agree by NumPy.

The oracle of everything that a gradient-sync callback must compose with: each model
is trained by Keras' own `train_on_batch` on the rows that a replica would get, so
that clipping, moving averages, loss scaling and the like are Keras' own; in between
the papers' equations are written out on arrays.
"""

import numpy as np
from gradient_sync_features import BATCH

REPLICAS = 2


def halves(batch):
    """The rows of each replica: the first gets one more if they are odd in number."""
    first = -(-len(batch[0]) // REPLICAS)
    return [[part[:first] for part in batch], [part[first:] for part in batch]]


class PlainReplicas:
    """Trains `REPLICAS` plain models.

    Args:
        make_model: makes a compiled model, each time with the same weights.
        agree: an object with `after(step, replicas)`, which may average, and
            `weights(replicas)`, those of the average model.
    """

    def __init__(self, make_model, agree):
        self.models = [make_model() for _ in range(REPLICAS)]
        self.agree = agree
        agree.begin(self)
        self.steps = 0
        self.seen_of_layers = np.zeros(REPLICAS)
        self.loss = EpochLoss()

    def values(self, name):
        """A list of arrays for each replica: "trainable" or "layers'" variables, "ema"."""
        return [[v.numpy() for v in self.variables(model, name)] for model in self.models]

    @staticmethod
    def variables(model, name):
        if name == "trainable":
            return model.trainable_variables
        if name == "ema":
            optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
            return optimizer._model_variables_moving_average if optimizer.use_ema else []
        return [v for v in model.non_trainable_variables if v.dtype == "float32"]

    def assign(self, name, values, places=None):
        for model in self.models:
            variables = self.variables(model, name)
            for place in places if places is not None else range(len(variables)):
                variables[place].assign(values[place])

    def step(self, batch):
        counts = []
        for model, part in zip(self.models, halves(batch)):
            if len(part[0]):
                self.loss.train(model, part)
            counts.append(len(part[0]))
        self.steps += 1
        self.seen_of_layers += counts
        if self.agree.after(self.steps, self, np.array(counts)):
            self.assign("layers'", self.layers_average())
            self.seen_of_layers[:] = 0

    def layers_average(self):
        return mean(self.values("layers'"), self.seen_of_layers)

    def average_into(self, model, ema=False):
        """Assigns `model` the average model, or that of the moving averages."""
        trainable = self.agree.average(self)
        if ema and self.values("ema")[0]:
            trainable = mean(self.values("ema"), np.ones(REPLICAS))
        for variable, value in zip(model.trainable_variables, trainable):
            variable.assign(value)
        for variable, value in zip(self.variables(model, "layers'"), self.layers_average()):
            variable.assign(value)


class EpochLoss:
    """The mean loss of an epoch; `train_on_batch` forgets it after each step."""

    def __init__(self):
        self.sums = np.zeros(2)

    def train(self, model, batch):
        model.train_on_batch(*batch)
        self.sums += [float(model.metrics[0].total), float(model.metrics[0].count)]

    def take(self):
        (total, count), self.sums = self.sums, np.zeros(2)
        return total / count


def mean(values, weights):
    """Means of each array over replicas; plain ones if nobody has seen an example."""
    weights = weights / weights.sum() if weights.sum() else np.full(REPLICAS, 1 / REPLICAS)
    return [sum(w * v.astype("float64") for w, v in zip(weights, of)) for of in zip(*values)]


class LocalSgd:
    """x = sum_r n_r / n x_r every `period` steps (1805.09767)."""

    def __init__(self, period):
        self.period = period

    def begin(self, replicas):
        self.seen = np.zeros(REPLICAS)

    def after(self, step, replicas, counts):
        self.seen += counts
        if step % self.period:
            return False
        replicas.assign("trainable", self.average(replicas))
        self.seen[:] = 0
        return True

    def average(self, replicas):
        return mean(replicas.values("trainable"), self.seen)


class Diloco:
    """Nesterov momentum 0.9, rate 0.7, on a - x (2311.08105); in parts (2501.18512)."""

    def __init__(self, period, parts=None):
        self.period, self.parts = period, parts

    def begin(self, replicas):
        self.anchors = replicas.values("trainable")[0]
        self.momenta = [np.zeros_like(anchor) for anchor in self.anchors]
        self.parts = self.parts or [range(len(self.anchors))]
        self.seen = [np.zeros(REPLICAS) for _ in self.parts]

    def after(self, step, replicas, counts):
        last = False
        for number, part in enumerate(self.parts):
            self.seen[number] += counts
            last = False
            if (step - self.period * (number + 1) // len(self.parts)) % self.period == 0:
                averages = mean(replicas.values("trainable"), self.seen[number])
                for i in part:
                    gradient = self.anchors[i] - averages[i]
                    self.momenta[i] = 0.9 * self.momenta[i] - 0.7 * gradient
                    self.anchors[i] = self.anchors[i] + 0.9 * self.momenta[i] - 0.7 * gradient
                replicas.assign("trainable", self.anchors, part)
                self.seen[number][:] = 0
                last = True
        return last

    def average(self, replicas):
        averages = list(replicas.values("trainable")[0])
        for seen, part in zip(self.seen, self.parts):
            of_part = mean(replicas.values("trainable"), seen)
            for i in part:
                averages[i] = of_part[i]
        return averages


def train(make_model, agree, batches, epochs, validation):
    """Trains plain replicas.

    Returns:
        Dict: "weights" of the model at the end, and for each epoch "loss", "val_loss".
    """
    replicas, average = PlainReplicas(make_model, agree), make_model()
    losses, validations = [], []
    for _ in range(epochs):
        for batch in batches:
            replicas.step(batch)
        losses.append(replicas.loss.take())
        replicas.average_into(average)
        validations.append(loss_of(average, validation))
    replicas.average_into(average, ema=True)
    return {"weights": floats(average), "loss": losses, "val_loss": validations}


def loss_of(model, validation):
    """What `evaluate` says, in the batches of the training."""
    arguments = {"batch_size": BATCH, "verbose": 0, "return_dict": True}
    return model.evaluate(*validation, **arguments)["loss"]


def floats(model):
    """The weights of floating point, which leaves states of seeds out."""
    return [v.numpy() for v in model.weights if "int" not in v.dtype]
