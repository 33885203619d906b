"""Optimisers, their learning rates over a run, and their state as tensors. Does not know what learns."""

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from packshot.diffusion.protocols import ParameterGroup
from packshot.domain.errors import InvalidConfiguration
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import MixedPrecision, OptimizerKind, Schedule

BETAS = (0.9, 0.999)
EPSILON = 1e-8

_WHOLE = "whole:"  # marks what an optimiser keeps as a Python integer
_SCALER = "scaler"

# What Prodigy reads of the step before, beside its parameters' state.
_PRODIGY = "prodigy"
_ESTIMATES = ("d", "d_max", "d_numerator", "k")


def check_installed(kind: OptimizerKind) -> None:
    """Refuse an optimiser that cannot run here.

    Raises:
        InvalidConfiguration: its library is missing; the message says which.
    """
    library = {OptimizerKind.ADAMW_8BIT: "bitsandbytes", OptimizerKind.PRODIGY: "prodigyopt"}.get(kind)
    if library and importlib.util.find_spec(library) is None:
        raise InvalidConfiguration(
            f"optimizer is {kind}, and {library} is not installed; install it, or set optimizer=adamw and its learning "
            "rates"
        )


class Optimizer:
    """The optimiser of a configuration, on its schedule.

    AdamW (Loshchilov and Hutter 2019), in 32-bit floats or, with bitsandbytes, in 8 bits; or Prodigy (Mishchenko and
    Defazio 2024), which estimates how far each group of parameters has to go and takes learning rates as factors of that.
    """

    def __init__(self, groups: Sequence[ParameterGroup], config: TrainingConfig, device: torch.device) -> None:
        self._config = config
        self._parameters = {name: each for group in groups for name, each in group.parameters.items()}
        options = [
            {
                "params": list(group.parameters.values()),
                "lr": group.learning_rate,
                "weight_decay": config.weight_decay if group.decays else 0.0,
            }
            for group in groups
            if group.parameters
        ]
        self._rates = [group.learning_rate for group in groups if group.parameters]
        self._optimizers = _optimizers(options, config.optimizer, device)
        self._owners = {
            id(parameter): optimizer
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        # Half floats have so little range that gradients are scaled up, and a step whose gradients overflow is left out.
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.mixed_precision is MixedPrecision.FP16)

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as its gradients are to be taken from it: scaled up where half floats have too little range."""
        return self._scaler.scale(loss)

    def step(self, step: int) -> float | None:
        """Clip the gradients and take step number ``step`` (from 0); returns their norm before.

        None means that half floats overflowed, and the step was left out.

        Raises:
            InvalidConfiguration: a gradient is no number.
        """
        learning = [each for each in self._parameters.values() if each.grad is not None]
        if not learning:
            return 0.0
        factor = learning_rate_factor(self._config, step)
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate * factor
        stepping = {id(self._owners[id(each)]): self._owners[id(each)] for each in learning}.values()
        for optimizer in stepping:
            self._scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(learning, self._config.max_gradient_norm).item()
        if not math.isfinite(norm) and not self._scaler.is_enabled():
            raise diverged(self._config, step, f"its gradient norm is {norm}")
        if math.isfinite(norm):
            for optimizer in stepping:
                self._scaler.step(optimizer)
        self._scaler.update()
        return norm if math.isfinite(norm) else None

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor that the next step depends on, beside the parameters, by name."""
        for name in self._parameters:
            for key, value in self._state_of(name).items():
                if isinstance(value, Tensor):
                    yield f"{key}/{name}", value
                else:
                    yield f"{_WHOLE}{key}/{name}", torch.tensor(value)
        if self._config.optimizer is OptimizerKind.PRODIGY:
            for number, optimizer in enumerate(self._optimizers):
                estimates = [float(optimizer.param_groups[0][name]) for name in _ESTIMATES]
                yield f"{_PRODIGY}/{number}", torch.tensor(estimates, dtype=torch.float64)
        for key, value in self._scaler.state_dict().items():
            yield f"{_SCALER}/{key}", torch.tensor(value, dtype=torch.float64)

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what ``state`` gave."""
        scaler = self._scaler.state_dict()
        for key, tensor in state.items():
            kind, _, name = key.partition("/")
            if kind == _SCALER:
                scaler[name] = type(scaler[name])(tensor.item())
            elif kind == _PRODIGY:
                d, d_max, d_numerator, k = tensor.tolist()
                self._optimizers[int(name)].param_groups[0].update(d=d, d_max=d_max, d_numerator=d_numerator, k=int(k))
            elif kind.startswith(_WHOLE):
                self._state_of(name)[kind.removeprefix(_WHOLE)] = int(tensor)
            else:
                self._state_of(name)[kind] = _like(self._parameters[name], tensor)
        if scaler:
            self._scaler.load_state_dict(scaler)

    def _state_of(self, name: str) -> dict[str, Any]:
        """What its optimiser keeps of a parameter."""
        parameter = self._parameters[name]
        return self._owners[id(parameter)].state[parameter]


def _optimizers(
    options: list[dict[str, Any]], kind: OptimizerKind, device: torch.device
) -> list[torch.optim.Optimizer]:
    """One optimiser of all groups, or one for each where it estimates one step size for all that it holds.

    Prodigy has the settings that its authors recommend for diffusion models.
    """
    if kind is OptimizerKind.PRODIGY:
        from prodigyopt import Prodigy

        return [
            Prodigy([each], betas=BETAS, eps=EPSILON, use_bias_correction=True, safeguard_warmup=True)
            for each in options
        ]
    if kind is OptimizerKind.ADAMW_8BIT:
        import bitsandbytes  # type: ignore[import-not-found]

        return [bitsandbytes.optim.AdamW8bit(options, betas=BETAS, eps=EPSILON)]
    return [torch.optim.AdamW(options, betas=BETAS, eps=EPSILON, fused=device.type in ("cpu", "cuda"))]


def diverged(config: TrainingConfig, step: int, how: str) -> InvalidConfiguration:
    """The error of a training whose figures are no numbers any more, at step number ``step`` (from 0)."""
    return InvalidConfiguration(
        f"the training diverged at step {step + 1}: {how}; lower learning_rate, which is {config.learning_rate:g}, or "
        f"token_learning_rate, which is {config.token_learning_rate:g}"
    )


def learning_rate_factor(config: TrainingConfig, step: int) -> float:
    """What the learning rates are multiplied by at ``step`` (from 0): it rises in warm-up and falls to 0 by the end."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return {
        Schedule.CONSTANT: 1.0,
        Schedule.LINEAR: 1.0 - done,
        Schedule.COSINE: (1 + math.cos(math.pi * done)) / 2,
    }[config.learning_rate_schedule]


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy of an optimiser's tensor, where and as it keeps it for this parameter."""
    if tensor.shape != parameter.shape:
        return tensor.to(parameter.device)
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
