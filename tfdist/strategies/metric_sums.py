"""The state of a model's metrics, over all workers.

Most of it goes with the message that ends each step (`sync/step.py`). Some is too large for
that: areas under curves count in more than 100,000 bins (`tfdist.metrics.ROCAUC`), and a
megabyte or two would be a gradient of its own. Such state is added up over
the workers at the end of an epoch, and of `evaluate`; during an epoch, the progress bar shows
what the first replica alone has seen.
"""

import tensorflow as tf

from tfdist.compat.variables import global_copy, set_global_copy
from tfdist.sync.step import is_large


def metric_variables(model):
    """The state of the model's metrics that replicas keep apart and that sums up."""
    seen = {}
    for metric in model.metrics:
        for variable in metric.variables:
            if variable.synchronization == "on_read":
                seen[id(variable)] = variable
    return list(seen.values())


def keep_global_copies(strategy, model):
    """Gives each metric variable a copy that holds its value over all workers.

    Reading a metric is then local: a callback on the chief alone may do it, where
    TensorFlow would wait for the other workers to read it too.
    """
    if strategy.place.mesh.data == 1:
        return
    for variable in metric_variables(model):
        if global_copy(variable) is None:
            with strategy.scope():
                copy = tf.Variable(
                    tf.zeros(variable.shape, variable.dtype),
                    trainable=False,
                    aggregation=tf.VariableAggregation.NONE,
                )
            set_global_copy(variable, copy)


def assign_sums(variables, communicator):
    """Gives the global copies of `variables` the sums over all replicas. Traced."""
    values = [tf.convert_to_tensor(v.value) for v in variables]
    for variable, total in zip(variables, communicator.all_reduce(values)):
        global_copy(variable).assign(total)


class MetricSums:
    """Adds up the large state of a model's metrics.

    Args:
        strategy: a tfdist strategy.
        model: the Keras model.
    """

    def __init__(self, strategy, model):
        self._strategy = strategy
        self._model = model
        self._variables = self._function = None

    def add_up(self):
        """Makes large metrics global. All workers must call it.

        Returns:
            Whether there were any.
        """
        variables = [v for metric in self._model.metrics for v in metric.variables]
        # Reading a metric sums over the replicas of one worker.
        variables = [v for v in variables if global_copy(v) is not None and is_large(v)]
        if not variables:
            return False
        if self._variables is None or [*map(id, variables)] != [*map(id, self._variables)]:
            self._variables, self._function = variables, self._trace(variables)
        with self._strategy.watching("adding up the metrics of all workers"):
            self._function()
        return True

    def _trace(self, variables):
        def on_replica():
            assign_sums(variables, self._strategy.communicator())
            return tf.zeros([])

        run = tf.function(lambda: self._strategy.run_on_replicas(on_replica), autograph=False)
        return run.get_concrete_function()
