"""What each kind of model needs around its call: batches, inputs by name, one output."""

import keras
import numpy as np

from tfdist.evaluation.data import to_numpy


def in_batches(function, x, batch_size, done=None):
    """Calls `function` with a batch after the other.

    Args:
        function: from a batch of inputs to an array of scores.
        x: an array, or a dict or list of arrays.
        batch_size: int, the examples of a batch; the last may have fewer.
        done: called with the number of examples of each batch that is done; or None.

    Returns:
        The scores of all examples.
    """
    parts = []
    for start in range(0, len(keras.tree.flatten(x)[0]), batch_size):
        batch = keras.tree.map_structure(
            lambda array: array[start : start + batch_size],  # noqa: B023
            x,
        )
        parts.append(function(batch))
        if done is not None:
            done(len(keras.tree.flatten(batch)[0]))
    return np.concatenate(parts)


def only_output(outputs, who):
    """The one array of a model's outputs.

    Raises:
        ValueError: there are several.
    """
    flat = keras.tree.flatten(outputs)
    if len(flat) != 1:
        names = f" ({', '.join(outputs)})" if isinstance(outputs, dict) else ""
        raise ValueError(
            f"{who} has {len(flat)} outputs{names}; expected one. Evaluate one at a time: "
            "`keras.Model(model.inputs, model.outputs[0])`, or a function that returns one."
        )
    return to_numpy(flat[0])


def named_inputs(batch, names, who):
    """Gives each input of a model its name.

    Args:
        batch: an array for a model of one input, or a dict of arrays by name.
        names: the names of the model's inputs.
        who: str, the model, for the error.

    Returns:
        A dict of arrays by name.

    Raises:
        ValueError: the names are others.
    """
    names = list(names)
    if not isinstance(batch, (dict, list, tuple)) and len(names) == 1:
        return {names[0]: batch}
    if isinstance(batch, (list, tuple)) and len(batch) == len(names) == 1:
        return {names[0]: batch[0]}
    if isinstance(batch, dict) and set(batch) >= set(names):
        return {name: batch[name] for name in names}  # a column more serves the slices
    got = f"a dict of {sorted(batch)}" if isinstance(batch, dict) else f"a {type(batch).__name__}"
    raise ValueError(f"{who} takes a dict of the inputs {names}; received {got}.")
