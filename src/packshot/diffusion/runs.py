"""One task as a run: its loop over what a method has attached, its file, and what names it. Knows no batch."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.utils.checkpoint import checkpoint

from packshot.diffusion.batches import BatchPlan
from packshot.diffusion.checkpoints import Checkpoints
from packshot.diffusion.conditioning import EncodesPrompts, PromptConditioning
from packshot.diffusion.course import Course
from packshot.diffusion.floats import computing, resolved
from packshot.diffusion.looks import Looks
from packshot.diffusion.loop import Loop
from packshot.diffusion.methods import METHODS
from packshot.diffusion.metrics import MetricsLog
from packshot.diffusion.processes import Processes
from packshot.diffusion.protocols import TOKEN_PREFIX, Attachment, Conditioning, Family
from packshot.diffusion.sampling import Passing
from packshot.diffusion.weights import WEIGHTS_FILE, WeightsHeader, write_weights
from packshot.domain.training import TrainingConfig
from packshot.ports import TrainedWeights, TrainingTask


def loop_of(
    task: TrainingTask,
    base: Family,
    plan: BatchPlan,
    attachment: Attachment,
    rows: Mapping[str, nn.Parameter],
    *,
    encoder: EncodesPrompts | None = None,
    known: dict[str, Conditioning] | None = None,
    passing: Passing = lambda _: nullcontext(),
    processes: Processes | None = None,
) -> Loop:
    """The loop of ``task``. Prompts are read by ``encoder``, or else by the base; ``known`` see PromptConditioning.

    ``passing`` is what must hold while rows of its pictures pass through the base.
    """
    row_learns = any(row.requires_grad for row in rows.values())

    def learns(prompt: str) -> bool:
        return attachment.text_encoder_learns or (row_learns and task.token in prompt)

    conditioning = PromptConditioning(encoder or base, learns, known=known, own=lambda prompt: task.token in prompt)
    return Loop(
        base=base,
        attachment=attachment,
        plan=plan,
        conditioning=conditioning,
        config=task.config,
        checkpoints=Checkpoints(task.workdir / "checkpoints", _run_digest(task)),
        metrics=MetricsLog(task.workdir / "metrics.jsonl"),
        looks=Looks(
            folder=task.workdir / "looks",
            base=base,
            encode=conditioning,
            passing=passing,
            config=task.config,
            validation=task.validation,
            scoring=task.scoring,
            weights=lambda course: _weights(task, base, course, rows),
        ),
        processes=processes or Processes(),
    )


@contextmanager
def attached_loop(
    task: TrainingTask, base: Family, plan: BatchPlan, processes: Processes
) -> Iterator[tuple[Loop, Mapping[str, nn.Parameter]]]:
    """The loop of ``task``, with its method in the base while the context lasts, and the rows of its token."""
    config = task.config
    share = dataclasses.replace(plan, process=processes.number, num_processes=processes.count)
    start = base.initial_rows(task.class_noun, config.seed, config.num_vectors)
    with base.with_token(task.token, start) as rows, recomputed(base, config):
        attachment = METHODS[config.method].attach(base, rows, config)
        try:
            yield loop_of(task, base, share, attachment, rows, processes=processes), rows
        finally:
            attachment.detach()


@contextmanager
def recomputed(base: Family, config: TrainingConfig) -> Iterator[None]:
    """With gradient checkpointing the backward pass computes activations anew within the context."""
    if not config.gradient_checkpointing:
        yield
        return
    denoiser = base.denoiser
    assert isinstance(denoiser, ModelMixin)

    def again() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
        """What is around the first computation, beside that which is there, and what around the second."""
        return nullcontext(), computing(config.mixed_precision, base.device)

    denoiser.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, context_fn=again))
    try:
        yield
    finally:
        denoiser.disable_gradient_checkpointing()


def trained(task: TrainingTask, loop: Loop, course: Course, rows: Mapping[str, nn.Parameter]) -> TrainedWeights:
    """What a finished course of ``loop`` gives."""
    scored = loop.looks.scored(course)
    weights = loop.looks.best_weights(scored.choice.step) if scored else _weights(task, loop.base, course, rows)
    return TrainedWeights(
        files={WEIGHTS_FILE: weights},
        metrics=tuple(loop.metrics.rows),
        validation=loop.looks.pictures(course),
        scored=scored,
    )


def _weights(task: TrainingTask, base: Family, course: Course, rows: Mapping[str, nn.Parameter]) -> bytes:
    """The file, which says with which floats it was trained here, whatever ``auto`` stands for elsewhere."""
    config = dataclasses.replace(task.config, mixed_precision=resolved(task.config.mixed_precision, base.device))
    header = _header(dataclasses.replace(task, config=config))
    return write_weights(header, {TOKEN_PREFIX + name: row for name, row in rows.items()} | dict(course.learned))


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
