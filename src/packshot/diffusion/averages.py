"""A moving average of what learns (Polyak and Juditsky 1992). Does not know what that is."""

from collections.abc import Mapping

import torch
from torch import Tensor


class MovingAverage:
    """Averages of parameters by name: ``decay`` of the old and the rest of the new at every step."""

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self.tensors = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step number ``step`` (from 0); early on the average follows them closely."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            self.tensors[name].lerp_(parameter, 1 - decay)
