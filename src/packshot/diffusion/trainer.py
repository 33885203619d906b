"""Implements Trainer: class images, encoding, then the loop, with a base that is left as it was found."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.batches import BatchPlan, Example
from packshot.diffusion.cache import LatentCache
from packshot.diffusion.checkpoints import Checkpoints
from packshot.diffusion.class_images import ClassImageSet, class_images
from packshot.diffusion.conditioning import PromptConditioning
from packshot.diffusion.generator import DiffusersGenerator
from packshot.diffusion.loop import Loop
from packshot.diffusion.methods import METHODS
from packshot.diffusion.metrics import MetricsLog
from packshot.diffusion.optimizers import check_installed
from packshot.diffusion.pictures import Size, bucket, frame_of_png, mask_from_png
from packshot.diffusion.protocols import TOKEN_PREFIX, Family
from packshot.diffusion.weights import WEIGHTS_FILE, WeightsHeader, write_weights
from packshot.domain.errors import Interrupted
from packshot.domain.presets import check_supported
from packshot.domain.training import class_prompt, instance_prompt
from packshot.ports import Progress, TrainedWeights, TrainingExample, TrainingTask

ENCODING = "encoding"


class DiffusersTrainer:
    """Fine-tunes bases in the diffusers layout. Class images come from ``generator``."""

    def __init__(self, bases: DiffusersBaseModels, generator: DiffusersGenerator) -> None:
        self._bases = bases
        self._generator = generator

    def train(
        self, task: TrainingTask, *, report: Callable[[Progress], None], stop: Callable[[], bool]
    ) -> TrainedWeights:
        """Train, or go on from the newest whole checkpoint in ``task.workdir``.

        Raises:
            Interrupted: ``stop()`` became true; what was done is kept.
            InvalidConfiguration: the family does not support it, the token means something to the base already, or the training diverged.
            Conflict: ``task.workdir`` belongs to another training.
            BaseModelRefused, CorruptArtifact: the base cannot be loaded, or has changed.
            WorkspaceUnusable: nothing can be written.
        """

        check_supported(task.config, task.base.family)
        check_installed(task.config.optimizer)

        def check_stop() -> None:
            if stop():
                raise Interrupted("stopped while preparing; the same command goes on with what was prepared")

        with self._bases.borrow(task.base) as base:
            pngs = self._class_images(task, base, report, check_stop)
            instances, class_examples = _encode(task, base, pngs, report, check_stop)
            plan = BatchPlan(
                instances=instances,
                class_examples=class_examples,
                config=task.config,
                draw_timesteps=base.draw_timesteps,
            )
            with base.with_token(
                task.token, base.initial_rows(task.class_noun, task.config.seed, task.config.num_vectors)
            ) as rows:
                return _learn(task, base, plan, rows, report, stop)

    def _class_images(
        self,
        task: TrainingTask,
        base: Family,
        report: Callable[[Progress], None],
        check_stop: Callable[[], None],
    ) -> list[bytes]:
        if not task.config.uses_prior_preservation:
            return []
        wanted = ClassImageSet(
            base=task.base,
            prompt=class_prompt(task.class_noun),
            count=task.config.num_class_images,
            resolution=task.config.resolution or base.resolution,
            inference_steps=task.config.class_inference_steps,
            guidance_scale=task.config.class_guidance_scale,
            max_batch=self._generator.max_batch,
        )
        return class_images(wanted, self._generator, task.cachedir, report, check_stop)


def _encode(
    task: TrainingTask,
    base: Family,
    class_pngs: list[bytes],
    report: Callable[[Progress], None],
    check_stop: Callable[[], None],
) -> tuple[list[Example], list[Example]]:
    """The examples and the class images as latents with their prompts."""
    config = task.config
    resolution = config.resolution or base.resolution
    base.latent_shape(resolution, resolution)  # a size that the base cannot have is refused before the work
    cache = LatentCache(task.cachedir / "latents", base, task.base.digest)
    prompt_of_class = class_prompt(task.class_noun)
    sources = [
        (each.image, instance_prompt(each.caption, task.class_noun, task.trained_phrase), each)
        for each in task.examples
    ] + [(png, prompt_of_class, None) for png in class_pngs]
    encoded: list[Example] = []
    for number, (png, prompt, source) in enumerate(sources):
        check_stop()
        size = bucket(png, resolution, base.cell) if config.aspect_ratio_buckets else (resolution, resolution)
        encoded.append(
            Example(
                latents=cache.latents(png, size, mirrored=False),
                mirrored=cache.latents(png, size, mirrored=True) if config.horizontal_flip else None,
                prompt=prompt,
                frame=frame_of_png(png, size),
                mask=_mask(source, size, base),
            )
        )
        report(Progress(phase=ENCODING, step=number + 1, num_steps=len(sources)))
    count = len(task.examples)
    return encoded[:count], encoded[count:]


def _mask(source: TrainingExample | None, size: Size, base: Family) -> Tensor | None:
    """The product's share of each latent cell; None without a mask, or where it marks nothing in the middle."""
    if source is None or source.mask is None:
        return None
    mask = mask_from_png(source.mask, size, base.latent_shape(*size)[1:])
    return mask if mask.any() else None


def _learn(
    task: TrainingTask,
    base: Family,
    plan: BatchPlan,
    rows: Mapping[str, nn.Parameter],
    report: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> TrainedWeights:
    """Run the loop with the task's method attached to the base, and detach it again."""
    attachment = METHODS[task.config.method].attach(base, rows, task.config)
    row_learns = any(row.requires_grad for row in rows.values())

    def learns(prompt: str) -> bool:
        return attachment.text_encoder_learns or (row_learns and task.token in prompt)

    try:
        loop = Loop(
            base=base,
            attachment=attachment,
            plan=plan,
            conditioning=PromptConditioning(base, learns),
            config=task.config,
            checkpoints=Checkpoints(task.workdir / "checkpoints", _run_digest(task)),
            metrics=MetricsLog(task.workdir / "metrics.jsonl"),
        )
        with _recomputed_activations(base.denoiser) if task.config.gradient_checkpointing else nullcontext():
            learned = loop.run(report, stop)
        weights = write_weights(_header(task), {TOKEN_PREFIX + name: row for name, row in rows.items()} | dict(learned))
    finally:
        attachment.detach()
    return TrainedWeights(files={WEIGHTS_FILE: weights}, metrics=tuple(loop.metrics.rows))


@contextmanager
def _recomputed_activations(denoiser: nn.Module) -> Iterator[None]:
    """Within the context the backward pass computes activations anew, which saves memory and costs time."""
    assert isinstance(denoiser, ModelMixin)
    denoiser.enable_gradient_checkpointing()
    try:
        yield
    finally:
        denoiser.disable_gradient_checkpointing()


def _header(task: TrainingTask) -> WeightsHeader:
    return WeightsHeader(
        method=task.config.method,
        family=task.base.family,
        base_digest=task.base.digest,
        token=task.token,
        trained_phrase=task.trained_phrase,
        class_noun=task.class_noun,
        rank=task.config.rank,
        alpha=task.config.rank,
        config=json.dumps(task.config.to_dict(), sort_keys=True),
    )


def _run_digest(task: TrainingTask) -> str:
    """Names the training by all that decides its result."""
    examples = [
        [hashlib.sha256(each.image).hexdigest(), hashlib.sha256(each.mask or b"").hexdigest(), each.caption]
        for each in task.examples
    ]
    parts = [dataclasses.asdict(_header(task)), examples]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
