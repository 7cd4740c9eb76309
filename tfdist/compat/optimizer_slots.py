"""Which variable each slot of an optimizer belongs to.

Needs: `BaseOptimizer._trainable_variables`, `._model_variables_moving_average`, and that an
optimizer holds its slots in lists of one for each of them (`Adam._momentums`);
`LossScaleOptimizer.inner_optimizer` is public.
Why: `Optimizer.variables` is one flat list, and names are made of paths that need not be unique.
"""


def slots_of(optimizer):
    """A dict of the Keras variable that a slot belongs to, by the slot's id."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return slots_of(inner)
    trained = optimizer._trainable_variables
    found = {}
    for name, slots in vars(optimizer).items():
        if name == "_trainable_variables" or not isinstance(slots, (list, tuple)):
            continue
        if len(slots) == len(trained) and any(hasattr(slot, "assign") for slot in slots):
            found |= {id(s): v for s, v in zip(slots, trained) if s is not None}
    return found


def averages_of(optimizer):
    """A dict of the average of a variable (`use_ema`) by the id of the variable."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return averages_of(inner)
    if optimizer is None or not optimizer.built or not optimizer.use_ema:
        return {}
    averages = optimizer._model_variables_moving_average
    return {id(v): one for v, one in zip(optimizer._trainable_variables, averages)}
