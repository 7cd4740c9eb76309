"""State of a training that Keras keeps where no public name reaches it.

Needs: `SeedGenerator` states behind `keras.random` without a seed
(`global_state`, `seed_generator.global_seed_generator`), the counters of
`ModelCheckpoint`, `BaseOptimizer._trainable_variables` and
`._model_variables_moving_average`, and the name of
TensorFlow's strategy without replicas.
Why: without them a resumed training draws other random numbers, saves models at
other steps, or has an optimizer without its momenta.
"""

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

# class -> the attributes that change while it runs
CALLBACK_STATE = {
    keras.callbacks.EarlyStopping: ("best", "wait", "stopped_epoch", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: (
        "best",
        "_current_epoch",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
    ),
}


def global_seed_state(create=False):
    """The state (a Keras variable) of the generator behind unseeded `keras.random`, or None."""
    if create:
        return seed_generator.global_seed_generator().state
    found = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    return found and found.state


def optimized_variables(optimizer):
    """The variables that a built optimizer was built with."""
    return list(optimizer._trainable_variables)


def averaged_variables(optimizer):
    """The moving averages of the model's variables that an optimizer keeps; [] for none."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return list(optimizer._model_variables_moving_average) if optimizer.use_ema else []


def states_of(model):
    """The states of a model's stateful RNNs, which Keras does not count as its variables."""
    layers = [one for one in model._flatten_layers() if isinstance(one, keras.layers.RNN)]
    states = [v for layer in layers for v in keras.tree.flatten(layer.states) if v is not None]
    return list({id(v): v for v in states}.values())


def is_single_device(strategy):
    """Whether `strategy` is the one that is in force where no strategy was chosen."""
    return type(strategy).__name__ == "_DefaultDistributionStrategy"
