"""Trial passes through a base with a method in it, to estimate what a training will take. Leaves the base as it was.

A trial has the training's own resolution, floats and options, and at most four pictures of its batch, so that it fits
where the training does. Knows no family and no method.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import psutil
import torch
from torch import Tensor, nn

from packshot.diffusion.floats import computing
from packshot.diffusion.loop import GUIDANCE
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
    resident = _resident_bytes(base.device)
    modules = [base.denoiser, *base.text_encoders.values()]
    parameters = sum(each.numel() for module in modules for each in module.parameters())
    with base.with_token(_TOKEN, base.initial_rows(class_noun, config.seed, config.num_vectors)) as token_rows:
        attachment = METHODS[config.method].attach(base, token_rows, config)
        try:
            passes = _Passes(base, config, attachment, class_noun, rows, side)
            with recomputed():
                passes.step()  # the first is slower
                activations = passes.kept_bytes()
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

    def kept_bytes(self) -> int:
        """What a step keeps for its backward pass, beside the parameters."""
        own = {each.untyped_storage().data_ptr() for module in self._modules() for each in module.parameters()}
        with _counted(own) as kept:
            self.step()
        return sum(kept.values())

    def seconds(self, act: Callable[[], object]) -> float:
        return min(_seconds(self._base.device, act) for _ in range(2))

    @property
    def _prompts_learn(self) -> bool:
        """Whether prompts are encoded anew at every step."""
        learns_token = any(name.startswith(TOKEN_PREFIX) for name in self._attachment.parameters)
        return learns_token or self._attachment.text_encoder_learns

    def _modules(self) -> list[nn.Module]:
        return [self._base.denoiser, *self._base.text_encoders.values()]


@contextmanager
def _counted(own: set[int]) -> Iterator[dict[int, int]]:
    """Bytes by storage that the backward pass keeps, but for the storages in ``own``."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


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
