"""`SwapEMAWeights` exchanges a model's weights and their averages without rounding.

Needs: `SwapEMAWeights._tf_swap_variables` (replaced), `BaseOptimizer._trainable_variables`
and `._model_variables_moving_average`.
Why: Keras swaps by two subtractions and an addition, so that weights which were swapped in
and out again differ in their last bits. What a callback has assigned while a gradient-sync
callback shows the average model is found by its bits (`strategies/gradient_sync.py`); there a
swap and its way back must change none.
"""

from keras.callbacks import SwapEMAWeights

from tfdist.compat.replacing import replace
from tfdist.compat.strategy import is_tfdist, local_components
from tfdist.compat.trainer import optimizer_strategy
from tfdist.compat.variables import swap_assigned


def install():
    replace(
        SwapEMAWeights,
        "_tf_swap_variables",
        _without_rounding,
        "an optimizer of a tfdist strategy",
        "exchanges the bits of weights and averages",
    )


def _without_rounding(original):
    def _tf_swap_variables(self, optimizer):
        strategy = optimizer_strategy(optimizer)
        if not is_tfdist(strategy) or strategy.is_asynchronous:
            original(self, optimizer)
            return
        pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average)
        for variable, average in pairs:
            mine, theirs = variable.value, average.value
            for one, other in zip(local_components(mine), local_components(theirs)):
                before = one.numpy()
                one.assign(other.numpy())
                other.assign(before)
            swap_assigned(mine, theirs)

    return _tf_swap_variables
