"""The mask that layers left at the scores of a sequence model.

Needs: `get_keras_mask` of `keras.src.backend`.
Why: layers that skip padding (`Embedding(mask_zero=True)`) hand their mask on with the tensor,
and Keras' losses and mean metrics read it there; what `compile` calls as `metrics` is
given no weights that would say so, and no public name returns it.
"""

from keras.src import backend


def mask_of(y_pred):
    """The mask of scores `(..., classes)`, of the shape of their first dimensions; or None."""
    return backend.get_keras_mask(y_pred)
