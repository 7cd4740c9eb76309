"""Lottery tickets: the weights of an early step, for those that stay to go back to."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from tfdist.arguments import integer
from tfdist.model_compression.pruning.masks import one_of


class EarlyWeights:
    """What a training was behind a step: the model's weights, and the optimizer's state.

    They are kept in this process's memory, as NumPy arrays.

    Args:
        step: int, behind how many steps of `fit`; 0: in front of the first. None: keeps nothing.
    """

    def __init__(self, step: int | None) -> None:
        self.step = integer("rewind_to", step, least=0, or_none=True)
        self.values: list[np.ndarray] | None = None

    @property
    def waits(self) -> bool:
        return self.step is not None and self.values is None

    def keep(self, step: int, variables: Sequence[keras.Variable]) -> None:
        """Keeps the variables if their time has come.

        Raises:
            ValueError: it has passed.
        """
        if self.step is None or step < self.step:
            return
        if step > self.step:
            raise ValueError(
                f"rewind_to={self.step}: the weights behind that step cannot be seen, `fit` ran "
                f"on to step {step}. Expected a step at which an execution ends; see "
                "`steps_per_execution` of `compile`."
            )
        self.values = [one_of(variable.value) for variable in variables]

    def restore(self, variables: Sequence[keras.Variable]) -> None:
        """Gives the variables the values that were kept.

        Raises:
            ValueError: there are none.
        """
        if self.values is None:
            asked = "pass `rewind_to=` to `prune`" if self.step is None else "call `fit` first"
            raise ValueError(f"`rewind`: no early weights were kept. Expected some; {asked}.")
        for variable, value in zip(variables, self.values, strict=True):
            variable.assign(value)
