"""N workers that train one linear model and agree in several ways, in plain NumPy.

Written from the equations of the papers, in float64. A model is one vector: the
kernel, row after row, then the bias. Each global batch is dealt out to the workers,
the first ones getting one example more where it does not divide; a worker without
examples takes its step with the gradient zero.
"""

import copy

import numpy as np

INPUTS, OUTPUTS = 3, 2
KERNEL, BIAS = slice(0, INPUTS * OUTPUTS), slice(INPUTS * OUTPUTS, None)
EXAMPLES, BATCH, EPOCHS = 29, 7, 4  # five steps an epoch, the last with one example
STEPS_PER_EPOCH = 5
STEPS = EPOCHS * STEPS_PER_EPOCH


def data(examples=EXAMPLES, seed=0):
    """Inputs and targets; examples at the end are larger, so that a wrong weight shows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, INPUTS))
    scale = np.linspace(0.2, 2.0, examples)[:, None]
    return x, scale * (x @ rng.normal(size=(INPUTS, OUTPUTS)) + rng.normal(size=OUTPUTS))


def first_model():
    return np.linspace(-0.5, 0.5, INPUTS * OUTPUTS + OUTPUTS)


def predict(model, x):
    return x @ model[KERNEL].reshape(INPUTS, OUTPUTS) + model[BIAS]


def evaluate(model, x, y):
    """The mean squared and the mean absolute error."""
    error = predict(model, x) - y
    return np.mean(error**2), np.mean(np.abs(error))


def gradient(model, x, y):
    """That of the mean squared error; zero without examples."""
    if not len(x):
        return np.zeros_like(model)
    error = 2 * (predict(model, x) - y) / y.size
    return np.concatenate([(x.T @ error).ravel(), error.sum(axis=0)])


def steps_of(workers):
    """For each step of the training, the list of each worker's `(x, y)`."""
    x, y = data()
    steps = []
    for begin in range(0, EXAMPLES, BATCH):
        batch = slice(begin, min(begin + BATCH, EXAMPLES))
        whole, rest = divmod(batch.stop - batch.start, workers)
        ends = np.cumsum([whole + (worker < rest) for worker in range(workers)])[:-1]
        steps.append(list(zip(np.split(x[batch], ends), np.split(y[batch], ends))))
    return steps * EPOCHS


# -- optimizers, by the formulas that Keras documents -----------------------------------


class SGD:
    """v <- m v - a g, then x <- x + v; with Nesterov x <- x + m v - a g."""

    def __init__(self, rate, momentum=0.0, nesterov=False):
        self.rate, self.momentum, self.nesterov = rate, momentum, nesterov
        self.velocity = 0.0

    def step(self, model, gradient):
        self.velocity = self.momentum * self.velocity - self.rate * gradient
        if self.nesterov:
            return model + self.momentum * self.velocity - self.rate * gradient
        return model + self.velocity


class Adam:
    """Kingma and Ba, section 2: the form whose rate carries the corrections of the bias."""

    def __init__(self, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        self.rate, self.beta_1, self.beta_2, self.epsilon = rate, beta_1, beta_2, epsilon
        self.m = self.v = 0.0
        self.t = 0

    def step(self, model, gradient):
        self.t += 1
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * gradient
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * gradient**2
        rate = self.rate * np.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        return model - rate * self.m / (np.sqrt(self.v) + self.epsilon)


# -- how workers agree ---------------------------------------------------------------------
# `t` counts steps from 1; `b` holds how many examples each worker had at this step.


def mean(vectors, weights):
    return np.average(vectors, axis=0, weights=weights)


class Synchronous:
    """All apply the gradient of the mean over all examples of the global batch."""

    def begin(self, model, workers):
        pass

    def gradients(self, t, g, b):
        return [mean(g, b)] * len(g)

    def models(self, t, x, b):
        return x

    def average(self, x):
        return x[0]


class LocalSGD:
    """1805.09767, with the warm-up of 1808.07217 and the slow momentum of 1910.00643.

    Slow momentum, for a constant rate gamma: u <- beta u + (a - x) / gamma and
    a <- a - alpha gamma u, where a is the last common model and x the average.
    """

    def __init__(self, period, warmup_steps=0, beta=0.0, alpha=1.0, gamma=0.05):
        self.period, self.warmup_steps = period, warmup_steps
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def begin(self, model, workers):
        self.seen, self.a, self.u = np.zeros(workers), model, 0.0

    def gradients(self, t, g, b):
        return [mean(g, b)] * len(g) if t <= self.warmup_steps else g

    def models(self, t, x, b):
        if t <= self.warmup_steps:
            self.a = x[0]
            return x
        self.seen = self.seen + b
        if (t - self.warmup_steps) % self.period:
            return x
        self.u = self.beta * self.u + (self.a - self.average(x)) / self.gamma
        self.a = self.a - self.alpha * self.gamma * self.u
        self.seen = np.zeros(len(x))
        return [self.a] * len(x)

    def average(self, x):
        return mean(x, self.seen) if self.seen.any() else x[0]


class DiLoCo:
    """2311.08105, algorithm 1: the outer gradient is the mean of a - x_r."""

    def __init__(self, period, outer=None):
        self.period = period
        self.outer = copy.deepcopy(outer) or SGD(0.7, momentum=0.9, nesterov=True)

    def begin(self, model, workers):
        self.seen, self.a = np.zeros(workers), model

    def gradients(self, t, g, b):
        return g

    def models(self, t, x, b):
        self.seen = self.seen + b
        if t % self.period:
            return x
        self.a = self.outer.step(self.a, mean([self.a - each for each in x], self.seen))
        self.seen = np.zeros(len(x))
        return [self.a] * len(x)

    def average(self, x):
        return mean(x, self.seen) if self.seen.any() else x[0]


class StreamingDiLoCo:
    """2501.18512 without overlap: fragment p of P is exchanged at the steps t whose
    remainder by the period H is that of the whole part of (p + 1) H / P."""

    def __init__(self, period, fragments, outer=None):
        self.period, self.fragments = period, fragments
        self.parts = [DiLoCo(1, outer) for _ in fragments]

    def begin(self, model, workers):
        for part, fragment in zip(self.parts, self.fragments):
            part.begin(model[fragment], workers)

    def gradients(self, t, g, b):
        return g

    def models(self, t, x, b):
        x = [each.copy() for each in x]
        for p, (part, fragment) in enumerate(zip(self.parts, self.fragments)):
            due = (t - (p + 1) * self.period // len(self.parts)) % self.period == 0
            part.period = 1 if due else t + 1
            for each, new in zip(x, part.models(t, [each[fragment] for each in x], b)):
                each[fragment] = new
        return x

    def average(self, x):
        result = np.empty_like(x[0])
        for part, fragment in zip(self.parts, self.fragments):
            result[fragment] = part.average([each[fragment] for each in x])
        return result


class PartialSync:
    """Gradients are averaged in the groups of a table, models of all now and then."""

    def __init__(self, table, resync_every):
        self.table, self.resync_every = table, resync_every

    def begin(self, model, workers):
        self.seen = np.zeros(workers)

    def gradients(self, t, g, b):
        groups = self.table[(t - 1) % len(self.table)]
        applied = []
        for mine in groups:
            members = np.flatnonzero(groups == mine)
            weights = np.asarray(b)[members]
            zero = np.zeros_like(g[0])  # of a group without examples
            applied.append(mean([g[m] for m in members], weights) if weights.any() else zero)
        return applied

    def models(self, t, x, b):
        self.seen = self.seen + b
        if t % self.resync_every:
            return x
        x = [self.average(x)] * len(x)
        self.seen = np.zeros(len(x))
        return x

    def average(self, x):
        return mean(x, self.seen) if self.seen.any() else x[0]


# -- training --------------------------------------------------------------------------------


class Trained:
    """What came out.

    Attributes:
        models: array `(steps, workers, parameters)`, behind each step.
        averages: array `(steps, parameters)`, the average model behind each step.
        losses, maes: of each epoch, over all examples, each seen by its own worker.
    """

    def __init__(self, models, averages, losses, maes):
        self.models, self.averages = np.array(models), np.array(averages)
        self.losses, self.maes = losses, maes

    @property
    def epochs(self):
        """The average model at the end of each epoch."""
        return self.averages[STEPS_PER_EPOCH - 1 :: STEPS_PER_EPOCH]


def train(workers, agree, optimizer):
    """Trains with a copy of `optimizer` on each worker."""
    agree, x = copy.deepcopy(agree), [first_model()] * workers
    optimizers = [copy.deepcopy(optimizer) for _ in range(workers)]
    agree.begin(x[0], workers)
    models, averages, errors = [], [], []
    for t, batches in enumerate(steps_of(workers), 1):
        b = [len(batch[0]) for batch in batches]
        errors.append(np.concatenate([predict(m, bx) - by for m, (bx, by) in zip(x, batches)]))
        g = agree.gradients(t, [gradient(m, *batch) for m, batch in zip(x, batches)], b)
        x = [each.step(m, of) for each, m, of in zip(optimizers, x, g)]
        x = agree.models(t, x, b)
        models.append(x)
        averages.append(agree.average(x))
    epochs = [
        np.concatenate(errors[begin : begin + STEPS_PER_EPOCH])
        for begin in range(0, STEPS, STEPS_PER_EPOCH)
    ]
    losses = [np.mean(error**2) for error in epochs]
    return Trained(models, averages, losses, [np.mean(np.abs(error)) for error in epochs])
