"""The function that `predict` calls, under a tfdist strategy."""

import tensorflow as tf

from tfdist.compat import active_step, autograph, inputs
from tfdist.compat import trainer as compat_trainer
from tfdist.data.split import GlobalBatch
from tfdist.strategies.batches import begin
from tfdist.sync.loop_step import Step


class Predictions:
    """Runs the steps of `predict`; called with a list of batches for each execution.

    Args:
        strategy: a tfdist strategy.
        model: the Keras model.
    """

    def __init__(self, strategy, model):
        self._strategy, self._model = strategy, model
        step = autograph.convert(model.predict_step)
        self._step = compat_trainer.optionals_to_none(model, step)
        self._many = self._many_steps
        if not model.run_eagerly:
            self._many = tf.function(self._many_steps, reduce_retracing=True)
        self._ever_ran = False

    def _replica_step(self, batch):
        strategy = self._strategy
        with active_step.activate(Step(strategy.communicator(), strategy.replica_id())):
            if not isinstance(batch, GlobalBatch):
                return self._step(batch)
            outputs = self._step(batch.data)
        return tf.nest.map_structure(lambda output: output[: batch.examples], outputs)

    def _one_step(self, data):
        outputs = self._strategy.run_on_replicas(self._replica_step, args=(data,))
        if inputs.is_distributed(data):
            return tf.nest.map_structure(self._strategy.gather_in_order, outputs)
        # `predict_on_batch`: every replica had all of it.
        return tf.nest.map_structure(
            lambda output: self._strategy.experimental_local_results(output)[0], outputs
        )

    @tf.autograph.experimental.do_not_convert
    def _many_steps(self, batches):
        outputs = [self._one_step(data) for data in batches]
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *outputs)

    def __call__(self, batches):
        begin(self._strategy, self._model, first=not self._ever_ran)
        self._ever_ran = True
        with self._strategy.watching("a prediction step"):
            return self._many(batches)
