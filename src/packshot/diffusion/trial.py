"""Trial passes through a base with a method in it, to estimate what a training will take. Leaves the base as it was.

A trial has the training's own resolution, floats and options, and at most four pictures of its batch, so that it fits
where the training does. Knows no family and no method.
"""

import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil
import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from packshot.diffusion.floats import computing
from packshot.diffusion.lessons import GUIDANCE
from packshot.diffusion.methods import METHODS
from packshot.diffusion.protocols import TOKEN_PREFIX, Attachment, Family
from packshot.domain.training import TrainingConfig
from packshot.domain.training_cost import Trial
from packshot.domain.training_prompts import class_prompt

_TOKEN = "<packshot-trial>"
_MOST_ROWS = 4


def try_out(
    base: Family,
    config: TrainingConfig,
    class_noun: str,
    recomputed: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Trial:
    """Measure passes of ``base`` as a training with ``config`` would make them; ``recomputed`` is held around a step.

    Raises:
        InvalidInput: a size that the base cannot have.
    """
    rows = min(_MOST_ROWS, config.batch_size * (2 if config.uses_prior_preservation else 1))
    side = config.resolution or base.resolution
    modules = [base.denoiser, *base.text_encoders.values()]
    parameters = sum(each.numel() for module in modules for each in module.parameters())
    with base.with_token(_TOKEN, base.initial_rows(class_noun, config.seed, config.num_vectors)) as token_rows:
        attachment = METHODS[config.method].attach(base, token_rows, config)
        try:
            passes = _Passes(base, config, attachment, class_noun, rows, side)
            with recomputed():
                passes.step()  # the first is slower, and reads the weights of a file that is mapped
                resident = _resident_bytes(base.device) - passes.learning_bytes
                activations = passes.peak_bytes()
                step = passes.seconds(passes.step)
            with torch.no_grad():
                forward = passes.seconds(passes.forward)
        finally:
            attachment.detach()
    pixels = torch.zeros(3, side, side, device=base.device)
    with torch.no_grad():
        encode = _seconds(base.device, lambda: base.encode_pixels(pixels))
        decode = _seconds(base.device, lambda: base.decode_latents(passes.latents[0]))
    return Trial(
        resident_bytes=resident,
        base_parameters=parameters,
        learning_parameters=sum(each.numel() for each in attachment.parameters.values()),
        activation_bytes=activations // rows,
        step_seconds=step / rows,
        forward_seconds=forward / rows,
        encode_seconds=encode,
        decode_seconds=decode,
        guided_rows=1 if base.embeds_guidance else 2,
        on_processor=base.device.type == "cpu",
    )


class _Passes:
    """Passes of some rows of noise."""

    def __init__(
        self, base: Family, config: TrainingConfig, attachment: Attachment, class_noun: str, rows: int, side: int
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self._base, self._config, self._attachment = base, config, attachment
        self._prompts = [class_prompt(f"{_TOKEN} {class_noun}")] * rows
        with torch.no_grad():
            self._known = base.encode_prompts(self._prompts)
        frames = torch.tensor([[side, side, 0, 0, side, side]] * rows, dtype=torch.float32)
        self._frames = base.picture_conditioning(frames, GUIDANCE)
        self.latents = torch.randn(rows, *base.latent_shape(side, side), generator=generator).to(base.device)
        self._timesteps = base.draw_timesteps(rows, generator).to(base.device)

    def forward(self) -> Tensor:
        with computing(self._config.mixed_precision, self._base.device):
            told = self._base.encode_prompts(self._prompts) if self._prompts_learn else self._known
            noisy = self._base.add_noise(self.latents, self.latents, self._timesteps)
            return self._base.predict(noisy, self._timesteps, told | self._frames)

    def step(self) -> None:
        self.forward().square().mean().backward()
        for parameter in self._attachment.parameters.values():
            parameter.grad = None

    def peak_bytes(self) -> int:
        """The most that the tensors take which a step makes, but for the gradients of what learns."""
        with _Live() as live:
            self.step()
        return live.peak - self.learning_bytes

    def seconds(self, act: Callable[[], object]) -> float:
        return min(_seconds(self._base.device, act) for _ in range(2))

    @property
    def learning_bytes(self) -> int:
        """What the parameters take that learn."""
        return sum(each.nbytes for each in self._attachment.parameters.values())

    @property
    def _prompts_learn(self) -> bool:
        """Whether prompts are encoded anew at every step."""
        learns_token = any(name.startswith(TOKEN_PREFIX) for name in self._attachment.parameters)
        return learns_token or self._attachment.text_encoder_learns


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within the context, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = [each.untyped_storage() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor) and not any(each.untyped_storage() is one for one in before):
                self._hold(each.untyped_storage())
        return made

    def _hold(self, storage: UntypedStorage) -> None:
        if storage not in self._known:
            self._known[storage] = True
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._let_go, storage.nbytes())

    def _let_go(self, num_bytes: int) -> None:
        self._now -= num_bytes


def _seconds(device: torch.device, act: Callable[[], object]) -> float:
    _wait_for(device)
    began = time.perf_counter()
    act()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _resident_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss
