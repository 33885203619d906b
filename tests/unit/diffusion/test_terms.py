"""The terms of the objective and their gradients, each on its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from fixtures_pipelines import PHRASE, QUICK, TOKEN, Studio
from torch import Tensor

from packshot.diffusion.batches import Batch, BatchPlan, Example
from packshot.diffusion.conditioning import PromptConditioning
from packshot.diffusion.loop import Loop
from packshot.diffusion.methods import METHODS
from packshot.diffusion.protocols import LatentDistribution
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, Method

CONFIG = replace(QUICK, method=Method.LORA, learning_rate=1e-2)
CLASS_PROMPT = "a photo of an apple"
EDGE = 8


def example(seed: int, prompt: str, mask: Tensor | None = None, width: int = EDGE) -> Example:
    mean = torch.randn(4, EDGE, width, generator=torch.Generator().manual_seed(seed))
    latents = LatentDistribution(mean=mean, std=torch.full_like(mean, 0.1))
    mirrored = LatentDistribution(mean=mean.flip(-1), std=latents.std)
    return Example(latents=latents, mirrored=mirrored, prompt=prompt, mask=mask, frame=(16, 16, 0, 0, 16, 16))


def plan(config: TrainingConfig, *, mask: Tensor | None = None, num_class: int = 4) -> BatchPlan:
    return BatchPlan(
        instances=[example(number, f"{PHRASE} {number}", mask) for number in range(5)],
        class_examples=[example(100 + number, CLASS_PROMPT) for number in range(num_class)],
        config=config,
        draw_timesteps=lambda count, generator: torch.randint(1000, (count,), generator=generator),
    )


@contextmanager
def loop(studio: Studio, config: TrainingConfig, batches: BatchPlan) -> Iterator[Loop]:
    with (
        studio.bases.borrow(studio.base) as base,
        base.with_token(TOKEN, base.initial_rows("apple", config.seed, 1)) as rows,
    ):
        attachment = METHODS[config.method].attach(base, rows, config)
        with torch.no_grad():  # an adapter that contributes nothing has no gradient in its other half
            for parameter in attachment.parameters.values():
                parameter.add_(torch.full_like(parameter, 0.01))
        try:
            yield Loop(
                base=base,
                attachment=attachment,
                plan=batches,
                conditioning=PromptConditioning(base, lambda prompt: False),
                config=config,
                checkpoints=cast(Any, None),
                metrics=cast(Any, None),
                looks=cast(Any, None),
            )
        finally:
            attachment.detach()


def gradients(running: Loop, loss: Tensor) -> dict[str, Tensor]:
    parameters = running.attachment.parameters
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.9])
def test_every_row_of_a_batch_has_the_prompt_of_its_own_picture(batch_size: int, dropout: float) -> None:
    config = replace(CONFIG, batch_size=batch_size, caption_dropout=dropout)
    batches = plan(config)
    pictures = {
        flipped.numpy().tobytes(): each.prompt
        for each in (*batches.instances, *batches.class_examples)
        for flipped in (each.latents.mean, each.latents.mean.flip(-1))
    }
    sharp = BatchPlan(
        instances=[without_deviation(each) for each in batches.instances],
        class_examples=[without_deviation(each) for each in batches.class_examples],
        config=config,
        draw_timesteps=lambda count, generator: torch.randint(1000, (count,), generator=generator),
    )
    dropped = 0
    for step in range(30):
        (batch,) = sharp.batch(step)
        assert batch.num_instances == batch_size == len(batch.latents) - batch_size
        for number, (latents, prompt) in enumerate(zip(batch.latents, batch.prompts, strict=True)):
            own = pictures[latents.contiguous().numpy().tobytes()]
            dropped += prompt == ""
            assert prompt == own or (prompt == "" and number < batch_size and dropout)
        assert set(batch.prompts[batch_size:]) == {CLASS_PROMPT}
    assert dropped == pytest.approx(dropout * 30 * batch_size, abs=0.15 * 30 * batch_size)


def without_deviation(each: Example) -> Example:
    def sharp(of: LatentDistribution) -> LatentDistribution:
        return LatentDistribution(mean=of.mean, std=torch.zeros_like(of.std))

    assert each.mirrored is not None
    return replace(each, latents=sharp(each.latents), mirrored=sharp(each.mirrored))


def test_an_epoch_visits_every_example_once() -> None:
    batches = plan(replace(CONFIG, batch_size=1, horizontal_flip=HorizontalFlip.OFF))
    for first in (0, 5, 10):
        assert len({batches.batch(step)[0].prompts[0] for step in range(first, first + 5)}) == 5


def test_the_prior_terms_gradient_is_that_of_the_term_alone(studio: Studio) -> None:
    config = replace(CONFIG, prior_weight=0.7)
    with loop(studio, config, plan(config)) as running:
        (batch,) = running.plan.batch(0)
        whole = gradients(running, running.losses([batch]).total)
        instance = gradients(running, running.losses([only_instances(batch)]).total)
        size = batch.num_instances
        base = running.base
        noisy = base.add_noise(batch.latents[size:], batch.noise[size:], batch.timesteps[size:])
        prediction = base.predict(noisy, batch.timesteps[size:], base.encode_prompts(batch.prompts[size:]))
        alone = gradients(running, torch.nn.functional.mse_loss(prediction, batch.noise[size:]))
    assert any(each.abs().max() > 1e-4 for each in alone.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, instance[name] + 0.7 * alone[name], rtol=1e-4, atol=1e-6)


def only_instances(batch: Batch) -> Batch:
    size = batch.num_instances
    return replace(
        batch,
        latents=batch.latents[:size],
        noise=batch.noise[:size],
        timesteps=batch.timesteps[:size],
        frames=batch.frames[:size],
        prompts=batch.prompts[:size],
    )


@pytest.mark.parametrize(("background_weight", "same"), [(0.0, True), (0.5, False)])
def test_what_lies_outside_the_mask_is_not_learned(
    background_weight: float, same: bool, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = torch.zeros(1, EDGE, EDGE)
    mask[..., : EDGE // 2] = 1
    config = replace(CONFIG, background_weight=background_weight, horizontal_flip=HorizontalFlip.OFF, prior_weight=0.0)
    with loop(studio, config, plan(config, mask=mask, num_class=0)) as running:
        (batch,) = running.plan.batch(0)
        found = []
        for background in (0.0, 50.0):
            target = batch.noise + background * (1 - mask)
            monkeypatch.setattr(running.base, "target", lambda *_, target=target: target)
            losses = running.losses([batch])
            found.append((losses.total.item(), gradients(running, losses.total)))
    (plain, one), (moved, other) = found
    assert (plain == moved) is same
    assert all(torch.equal(one[name], other[name]) for name in one) is same


def test_a_small_product_counts_as_much_as_a_large_one(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, background_weight=0.0, snr_gamma=0.0, prior_weight=0.0, batch_size=1)
    losses = []
    for columns in (1, EDGE):
        mask = torch.zeros(1, EDGE, EDGE)
        mask[..., :columns] = 1
        with loop(studio, config, plan(config, mask=mask, num_class=0)) as running:
            monkeypatch.setattr(running.base, "predict", lambda noisy, *_: torch.zeros_like(noisy))
            monkeypatch.setattr(running.base, "target", lambda latents, *_: torch.full_like(latents, 2.0))
            losses.append(running.losses(running.plan.batch(0)).total.item())
            monkeypatch.undo()
    assert losses == [4.0, 4.0]


def test_the_loss_of_several_shapes_is_the_mean_over_the_pictures(studio: Studio) -> None:
    config = replace(CONFIG, batch_size=3, prior_weight=0.7)
    mixed = replace(plan(config), instances=[example(number, PHRASE, width=EDGE + 4 * number) for number in range(3)])
    with loop(studio, config, mixed) as running:
        parts = running.plan.batch(0)
        whole = running.losses(parts)
        alone = [running.losses([only(part, row)]).instance for part in parts for row in range(part.num_instances)]
    assert len(parts) == len(alone) == 3
    assert whole.prior is not None
    torch.testing.assert_close(whole.instance, torch.stack(alone).sum())  # each is its share of the batch's mean
    torch.testing.assert_close(whole.total, whole.instance + 0.7 * whole.prior)


def only(batch: Batch, row: int) -> Batch:
    one = slice(row, row + 1)
    return replace(
        batch,
        latents=batch.latents[one],
        noise=batch.noise[one],
        timesteps=batch.timesteps[one],
        prompts=batch.prompts[one],
        frames=batch.frames[one],
        weights=batch.weights[one],
        num_instances=1,
    )
