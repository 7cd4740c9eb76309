"""A `fit` whose replicas agree by an algorithm: what lies around its steps.

`GradientSync` keeps the algorithm's state for one call of `fit`, and shows Keras the
average model where people look at it: from the end of an epoch's steps (validation,
callbacks' `on_epoch_end`, the end of `fit`) to the next epoch's first step, where each
replica gets its own variables back. So looking never changes training. A variable that
a callback assigns meanwhile has its new value on all replicas: by Keras' `assign` (and
`set_weights`, `load_weights`) whatever the value is, and by any other way (the `tf.Variable`
itself, `tf.train.Checkpoint`) if a bit of it is another.
"""

import numpy as np
import tensorflow as tf

from tfdist.compat import strategy as engine
from tfdist.compat import training_state
from tfdist.compat.layout import is_alike
from tfdist.compat.variables import forget_assigned, global_copy, was_assigned
from tfdist.strategies.metric_sums import assign_sums
from tfdist.strategies.variables import layer_variables, model_variables
from tfdist.sync.algorithm import assign_weighted_mean, new_variable, variables_of
from tfdist.sync.algorithm_step import LocalStep, Parts, SynchronousStep
from tfdist.sync.communicator import Traffic
from tfdist.sync.constrained import constrained
from tfdist.sync.layer_state import KeptState

BYTES, SECONDS = "sync_bytes", "sync_seconds"


class GradientSync:
    """One `fit` with an algorithm.

    Args:
        strategy: a tfdist strategy of several replicas.
        model: the Keras model.
        algorithm: a `tfdist.sync.algorithm.Algorithm`.
    """

    def __init__(self, strategy, model, algorithm):
        self._strategy, self._model, self.algorithm = strategy, model, algorithm
        self._parts = None
        self._own = None  # what replicas hold themselves, while the average is shown
        self._shown = None  # the average, meanwhile
        self._traffic = self._order = None
        self._functions = {}
        self._since_begin = {"steps": 0, BYTES: 0.0, SECONDS: 0.0}  # of the epoch

    # -- before the steps ---------------------------------------------------------

    def prepare(self):
        """Makes the algorithm's state. The model is built.

        Raises:
            ValueError: the algorithm cannot serve this model.
        """
        strategy, model = self._strategy, self._model
        variables = [v.value for v in model.trainable_variables]
        self.algorithm.check(strategy.num_replicas_in_sync, model.optimizer, variables)
        with strategy.scope():
            strategy.build_optimizer(model)
            state = self.algorithm.init(variables)
            if strategy.ring is not None:
                self._order = new_variable(tf.zeros([], tf.int32))
            else:
                self._traffic = [new_variable(tf.zeros([], tf.float64)) for _ in range(2)]
            self._parts = Parts(
                self.algorithm,
                state,
                model.optimizer,
                constrained(model.trainable_variables),
                KeptState(layer_variables(model)),
            )

    def state_variables(self):
        """The distributed variables that a checkpoint must hold besides the model's."""
        return [*variables_of(self._parts.state), *self._parts.kept.own]

    @property
    def replicas_differ(self):
        """Whether replicas may hold different variables at this moment."""
        return self.algorithm.local and self._parts is not None and self._steps() > 0

    def step(self, examples, global_examples, **more):
        """The step of the replica whose context is active, see `KerasStep`."""
        make = LocalStep if self.algorithm.local else SynchronousStep
        return make(
            self._parts,
            self._communicator(),
            self._strategy.replica_id(),
            examples,
            global_examples,
            **more,
        )

    def before_steps(self):
        """Called in front of each execution of the train function, on all workers."""
        self._show_own()
        if self._steps() == 0:
            parts = self._parts
            self._on_replicas(lambda: self.algorithm.start(parts.state, parts.variables), "start")
        self._traffic_before = self._traffic_so_far()
        self._steps_before = self._steps()

    def with_traffic(self, logs):
        """`logs` of an execution, with what was sent a step since the epoch began."""
        self._count_since(self._traffic_before)
        self._since_begin["steps"] += self._steps() - self._steps_before
        return {**logs, **self.traffic()} if isinstance(logs, dict) else logs

    def _count_since(self, before):
        for name, now, then in zip((BYTES, SECONDS), self._traffic_so_far(), before):
            self._since_begin[name] += now - then

    def traffic(self):
        """What this worker has sent, and how long that took: a step, since the epoch began."""
        steps = max(1, self._since_begin["steps"])
        return {name: self._since_begin[name] / steps for name in (BYTES, SECONDS)}

    def begin_epoch(self):
        self._since_begin = {"steps": 0, BYTES: 0.0, SECONDS: 0.0}

    def get_state(self):
        """The counts of the epoch that goes on, as JSON values."""
        return dict(self._since_begin)

    def set_state(self, state):
        self._since_begin = dict(state)

    # -- after the steps ------------------------------------------------------------

    def end_of_epoch(self):
        """Makes metrics global and shows the average model. All workers must call it."""
        if not self.algorithm.local:
            return
        before = self._traffic_so_far()
        with self._strategy.watching("averaging the models at the end of an epoch"):
            self._sum_metrics()
            self._show_average()
        self._count_since(before)

    def global_logs(self, logs, known):
        """The logs of an epoch, equal on all workers. All workers must call it.

        Args:
            logs: those of the last step on this worker, any structure.
            known: dict of those that are global already, by their places.

        Returns:
            Logs of the same structure; those that are not known are the mean over workers.
        """
        values = tf.nest.flatten(logs)
        own = {str(i): np.asarray(v).tolist() for i, v in enumerate(values) if i not in known}
        if own:
            workers = self._strategy.exchange("the logs of an epoch", {"logs": own})
            own = {i: np.mean([of["logs"][i] for of in workers], axis=0) for i in own}
        values = [known[i] if i in known else own[str(i)] for i in range(len(values))]
        return tf.nest.pack_sequence_as(logs, values)

    def finish(self):
        """`fit` has returned: all replicas hold the average model, and one optimizer's state."""
        if not self.algorithm.local or self._parts is None:
            return
        with self._strategy.watching("averaging the models at the end of `fit`"):
            self._show_average()
        self._own = None
        self._forget_differences([v.value for v in self._others()])
        self._strategy.synchronize_new_variables()

    def abandon(self):
        """`fit` has raised: nobody can be asked, so the chief's first replica is right."""
        if not self.algorithm.local or self._parts is None:
            return
        everything = [v.value for v in self._others()]
        if self._own is None:
            everything += self._averaged()
        self._own = None
        self._forget_differences(everything)

    def showing_own(self):
        """A context in which replicas' own variables are in the model."""
        return _ShowingOwn(self)

    # -- the average model ------------------------------------------------------------

    def _averaged(self):
        """The variables of which the average is shown."""
        ema = training_state.averaged_variables(self._model.optimizer)
        of_layers = self._parts.kept.agreed()
        trained = [v.value for v in self._model.trainable_variables]
        return [*trained, *of_layers, *[v.value for v in ema]]

    def _others(self):
        """All other variables of the training that replicas may hold differently."""
        averaged = {id(v) for v in self._averaged()}
        every = [v for v in model_variables(self._model) if is_alike(v)]
        return [v for v in every if id(v.value) not in averaged]

    def _show_average(self):
        # A plain average would not find equal values equal: it rounds.
        if self._own is not None or self._steps() == 0:
            return
        ema = [v.value for v in training_state.averaged_variables(self._model.optimizer)]
        agrees = self.algorithm.agrees_at(self._steps())
        if agrees and not ema:
            return
        self._own = [
            [part.numpy() for part in engine.local_components(v)] for v in self._averaged()
        ]

        def average():
            communicator, parts = self._communicator(), self._parts
            if not agrees:
                self.algorithm.average(parts.state, parts.variables, communicator)
                parts.kept.assign_agreed(communicator)
            if ema:
                assign_weighted_mean(ema, tf.ones([], tf.float64), communicator)

        self._on_replicas(average, name=("average", agrees))
        self._shown = self._first_values()
        for variable in self._averaged():
            forget_assigned(variable)

    def _first_values(self):
        return [engine.local_components(v)[0].numpy() for v in self._averaged()]

    def _keep_assigned(self):
        """A variable that a callback has assigned, while the average was shown, stays so."""
        values = zip(self._averaged(), self._first_values(), self._shown)
        for place, (variable, now, shown) in enumerate(values):
            if was_assigned(variable) or now.tobytes() != shown.tobytes():
                self._own[place] = [now] * len(self._own[place])

    def _show_own(self):
        if self._own is None:
            return
        self._keep_assigned()
        for variable, values in zip(self._averaged(), self._own):
            for part, value in zip(engine.local_components(variable), values):
                part.assign(value)
        self._own = None

    def _forget_differences(self, variables):
        """Gives all replicas the value of the chief's first one, other workers' when next used."""
        for variable in variables:
            first, *others = engine.local_components(variable)
            for other in others:
                if not engine.is_sync_on_read(variable):
                    other.assign(first.read_value())
        self._strategy.renew(variables)

    # -- helpers ------------------------------------------------------------------------

    def _communicator(self):
        """Of the replica whose context is active; what it sends is counted."""
        return self._strategy.communicator(self._traffic and Traffic(*self._traffic), self._order)

    def _sum_metrics(self):
        if self._strategy.place.mesh.data == 1:
            return  # reading a metric sums over the replicas of one worker
        variables = [v for metric in self._model.metrics for v in metric.variables]
        variables = [v for v in variables if global_copy(v) is not None]
        if variables:
            self._on_replicas(lambda: assign_sums(variables, self._communicator()), name="metrics")

    def _on_replicas(self, function, name):
        """Calls `function()` on each replica; traces it once for each name."""

        def on_replica():
            function()
            return tf.zeros([])

        if name not in self._functions:
            run = tf.function(lambda: self._strategy.run_on_replicas(on_replica), autograph=False)
            # TensorFlow warns of functions that are traced at each call, and takes those
            # of several `fit`s for one.
            self._functions[name] = run.get_concrete_function()
        self._functions[name]()

    def _steps(self):
        return int(engine.local_components(self._parts.state["step"][0])[0].numpy())

    def _traffic_so_far(self):
        if self._traffic is None:
            ring = self._strategy.ring
            return ring.bytes_sent, ring.seconds
        return [float(engine.local_components(v)[0].numpy()) for v in self._traffic]


class _ShowingOwn:
    """Puts replicas' own variables into the model, and the average back again."""

    def __init__(self, sync):
        self._sync = sync

    def __enter__(self):
        sync = self._sync
        self._own = sync._own
        if self._own is not None:
            self._average = sync._first_values()
            sync._show_own()

    def __exit__(self, *_):
        sync = self._sync
        if self._own is not None:
            for variable, value in zip(sync._averaged(), self._average):
                for part in engine.local_components(variable):
                    part.assign(value)
            sync._own = self._own
