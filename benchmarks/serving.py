"""What the serving benchmarks share: categories with adapters of random weights, for our bank and for plain diffusers.

The peers read the files that ``packshot export --format diffusers`` writes, through diffusers and peft alone. Times are
processor seconds of the calling thread, which the neighbours on a busy machine disturb less than wall time.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.utils import logging
from peft.tuners.lora import LoraLayer
from safetensors.torch import load
from torch import Tensor

from benchmarks.bases import Bench
from benchmarks.harness import Row
from packshot.diffusion.adapters import AdapterBank, LayerAdapter, bytes_of
from packshot.diffusion.interop import to_diffusers
from packshot.diffusion.methods import METHODS
from packshot.diffusion.methods.lora import beside
from packshot.diffusion.protocols import Family
from packshot.diffusion.weights import WeightsHeader, read_weights, write_weights
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import Method, Targets
from packshot.ports import LoadedFineTune

RANK = 4
TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Category:
    """A fine-tune in both worlds: ``adapters`` stand beside our denoiser, ``published`` is what diffusers loads.

    Peers are given copies: diffusers makes parameters of the very tensors that it is given, and hot-swapping writes
    the next category's numbers into them.
    """

    name: str
    tuned: LoadedFineTune
    adapters: dict[str, LayerAdapter]
    published: dict[str, Tensor]

    def copy(self) -> dict[str, Tensor]:
        """The published weights, for one pipeline to keep."""
        return {name: tensor.clone() for name, tensor in self.published.items()}

    @property
    def raw_bytes(self) -> int:
        """What its adapters' numbers take."""
        return bytes_of(self.adapters)


class Catalog:
    """Makes categories for one base, each from its number alone."""

    def __init__(self, base: Family, record: BaseModelRef) -> None:
        self._base, self._record = base, record
        config = TrainingConfig(method=Method.LORA, targets=Targets.ATTENTION, rank=RANK)
        attachment = METHODS[Method.LORA].attach(base, {}, config)
        self._shapes = {name: parameter.shape for name, parameter in attachment.parameters.items()}
        attachment.detach()

    def tuned(self, number: int) -> LoadedFineTune:
        """The fine-tune's file, with its record."""
        generator = torch.Generator().manual_seed(number)
        header = WeightsHeader(
            method=Method.LORA,
            family=self._record.family,
            base_digest=self._record.digest,
            token="",
            trained_phrase=f"sks{number} apple",
            class_noun="apple",
            rank=RANK,
            alpha=RANK,
            config="{}",
        )
        tensors = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in self._shapes.items()}
        record = FineTune(
            id=f"ft_{number}",
            category_id=f"cat_{number}",
            version=1,
            training_run_id=f"run_{number}",
            base_id=self._record.id,
            method=Method.LORA,
            token=header.token,
            trained_phrase=header.trained_phrase,
            artifacts=(),
            code_revision="",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        weights = write_weights(header, tensors)
        return LoadedFineTune(record=record, sha256=hashlib.sha256(weights).hexdigest(), read=lambda: weights)

    def category(self, number: int) -> Category:
        """The fine-tune as both sides take it."""
        tuned = self.tuned(number)
        header, tensors = read_weights(tuned.read())
        (published,) = to_diffusers(self._base, header, tensors).values()
        adapters = beside(self._base, header, tensors)
        return Category(name=f"category_{number}", tuned=tuned, adapters=dict(adapters), published=load(published))


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What one forward pass of the denoiser is given, ``rows`` of everything."""

    noisy: Tensor
    timesteps: Tensor
    states: Tensor

    @classmethod
    def random(cls, base: Family, rows: int) -> "Inputs":
        """Noise at different time steps, with the states of one prompt."""
        shape = base.latent_shape(base.resolution, base.resolution)
        states = base.encode_prompts(["an apple on a wooden table"])["hidden_states"].expand(rows, -1, -1).contiguous()
        noisy = torch.randn((rows, *shape), generator=torch.Generator().manual_seed(1))
        return cls(noisy=noisy, timesteps=torch.linspace(900, 100, rows), states=states)

    def row(self, number: int) -> "Inputs":
        """One row of them."""
        one = slice(number, number + 1)
        return Inputs(noisy=self.noisy[one], timesteps=self.timesteps[one], states=self.states[one])

    def through(self, denoiser: Any) -> Tensor:
        """What a denoiser gives."""
        return denoiser(self.noisy, self.timesteps, self.states).sample


def plain_pipeline(folder: Path) -> Any:
    """Plain diffusers over the base's files, silent."""
    logging.set_verbosity_error()
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.requires_grad_(False)
    return pipeline


@contextmanager
def mixed_by_peft(denoiser: torch.nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Peft's mixed batches in a diffusers denoiser: row i has the adapter ``names[i]``, told by forward hooks."""

    def tell(_layer: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return inputs, {**named, "adapter_names": list(names)}

    layers = [layer for layer in denoiser.modules() if isinstance(layer, LoraLayer)]
    hooks = [layer.register_forward_pre_hook(tell, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def held(bank: AdapterBank, category: Category) -> Iterator[int]:
    """The slot of a category while the context lasts."""
    slot = bank.acquire(category.name, category.adapters)
    assert slot is not None, "the bank has room for every category of the benchmark"
    try:
        yield slot
    finally:
        bank.release(slot)


def equal(label: str, ours: Tensor, peer: Tensor, tolerance: float = TOLERANCE) -> Row:
    """The largest difference as a row; no ratio is reported where it is too large.

    Raises:
        SystemExit: the outputs are not equal, so that a ratio would mean nothing.
    """
    difference = float((ours - peer).abs().max())
    if not difference <= tolerance:
        raise SystemExit(
            f"{label}: the outputs differ by {difference:.1e}, more than {tolerance:g}: nothing is reported"
        )
    return Row(label=f"largest difference from {label}", value=difference, unit="", at_most=tolerance)


def seconds(action: Callable[[], object], repeat: int = 1) -> float:
    """Processor seconds of this thread for one ``action``."""
    begun = time.thread_time()
    for _ in range(repeat):
        action()
    return (time.thread_time() - begun) / repeat


def memory_rate() -> float:
    """Bytes a second that one copy in memory moves here, read and written."""
    source = torch.ones(2**24)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(5))


def loaded_base(bench: Bench) -> Any:
    """The base, for this thread while the context lasts."""
    return bench.bases.borrow(bench.base)
