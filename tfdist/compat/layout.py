"""How a variable lies over the workers: alike on all, a piece on each, or each replica's own.

Needs: `Variable._value` of Keras' TensorFlow backend (the distributed variable, or None as
long as it has none; the public `value` makes one), and
`BaseOptimizer.add_variable_from_reference` (public, replaced for every optimizer).
Why: whoever sends, compares or saves variables meets the distributed variable, and whoever
makes them the Keras variable: what is marked on one is found on both. And what an optimizer
keeps for a piece is a piece.
"""

import dataclasses

from keras.src.optimizers.base_optimizer import BaseOptimizer

from tfdist.compat.replacing import replace


def install():
    replace(
        BaseOptimizer,
        "add_variable_from_reference",
        _a_piece_for_a_piece,
        "for a variable of which this worker holds a piece",
        "marks the new variable as the same piece",
    )


@dataclasses.dataclass(frozen=True)
class Piece:
    """A worker's part of a tensor of which no worker holds the whole.

    Example: the second of two workers holds the last 300 rows of a table.

    >>> from tfdist.compat.layout import Piece
    >>> Piece(whole=(600, 8), begin=300)
    Piece(whole=(600, 8), begin=300, dimension=0, axis='data')

    Args:
        whole: tuple of ints, the shape of the whole.
        begin: int, where this worker's part begins along `dimension`.
        dimension: int, the dimension along which the whole is cut.
        axis: "data", "stage" or "model", the axis of the mesh along which workers hold
            different parts.
    """

    whole: tuple
    begin: int
    dimension: int = 0
    axis: str = "data"


def is_own(variable):
    """Whether each replica keeps a variable for itself: states of RNNs, caches.

    Args:
        variable: a Keras variable, or the distributed variable in it.
    """
    return vars(variable).get("_tfdist_layout") == "own"


def piece_of(variable):
    """The `Piece` that this worker holds in a variable; None where it holds the whole.

    Args:
        variable: a Keras variable, or the distributed variable in it.
    """
    layout = vars(variable).get("_tfdist_layout")
    return layout if isinstance(layout, Piece) else None


def is_alike(variable):
    """Whether all workers hold the same whole value, as long as replicas step together."""
    return "_tfdist_layout" not in vars(variable)


def mark_own(variable):
    """Makes a variable each replica's own."""
    _mark(variable, "own")


def mark_piece(variable, piece):
    """Says which part of a whole this worker holds in a variable, a `Piece`.

    Raises:
        ValueError: it cannot be that part of that whole.
    """
    shape, whole = tuple(variable.shape), tuple(piece.whole)
    other = [size for i, size in enumerate(shape) if i != piece.dimension]
    fits = len(shape) == len(whole) and -1 < piece.dimension < len(whole)
    fits = fits and other == [size for i, size in enumerate(whole) if i != piece.dimension]
    if not fits or not 0 <= piece.begin <= whole[piece.dimension] - shape[piece.dimension]:
        raise ValueError(f"A variable of shape {shape} was marked as {piece}: it is no part of it.")
    _mark(variable, piece)


def _mark(variable, layout):
    vars(variable)["_tfdist_layout"] = layout
    pass_on(variable)


def pass_on(variable):
    """Marks the distributed variable in a Keras variable as that is marked."""
    layout, value = vars(variable).get("_tfdist_layout"), vars(variable).get("_value")
    if layout is not None and value is not None:
        vars(value)["_tfdist_layout"] = layout


def _a_piece_for_a_piece(original):
    def add_variable_from_reference(self, reference_variable, *args, **kwargs):
        variable = original(self, reference_variable, *args, **kwargs)
        piece = piece_of(reference_variable)
        if piece is not None:
            mark_piece(variable, piece)
        return variable

    return add_variable_from_reference
