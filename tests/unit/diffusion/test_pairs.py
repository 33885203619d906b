"""Every method on every family: prompts, the prior term, attaching, and what is saved, at batch sizes 1 and 3."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import torch
from fixtures_families import EDGE, FAMILIES, ours, quick
from fixtures_pipelines import PHRASE, RESOLUTION, TOKEN, Studio, base_state
from torch import Tensor

from packshot.diffusion.batches import Batch, BatchPlan, Example
from packshot.diffusion.conditioning import PromptConditioning
from packshot.diffusion.loop import Loop
from packshot.diffusion.methods import METHODS
from packshot.diffusion.protocols import TOKEN_PREFIX, Conditioning, Family, LatentDistribution
from packshot.diffusion.weights import WeightsHeader, read_weights, token_rows, write_weights
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, Method

CLASS_PROMPT = "a photo of an apple"
# With per-image captions, as they come out of the references; the last is longer than the encoders.
CAPTIONS = [f"a photo of a {PHRASE}", f"two {PHRASE}s", f"a {PHRASE}, on grass", f"{PHRASE} " * 6]
PRIOR_WEIGHT = 0.7


@dataclass(frozen=True)
class Pair:
    family: str
    method: Method
    text: bool

    def config(self, batch_size: int = 1) -> TrainingConfig:
        return quick(
            self.family,
            method=self.method,
            train_text_encoder=self.text,
            batch_size=batch_size,
            prior_weight=PRIOR_WEIGHT,
            num_vectors=2,
            horizontal_flip=HorizontalFlip.OFF,
        )


PAIRS = [
    Pair(family, method, text)
    for family in FAMILIES
    for method in Method
    for text in (False, True)
    if not text or method.can_train_text_encoder
]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair.family}-{pair.method}{'-text' * pair.text}")
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.param


def example(seed: int, prompt: str) -> Example:
    mean = torch.randn(4, EDGE, EDGE, generator=torch.Generator().manual_seed(seed))
    latents = LatentDistribution(mean=mean, std=torch.zeros_like(mean))
    frame = (RESOLUTION + seed, RESOLUTION, seed % 3, 0, RESOLUTION, RESOLUTION)
    return Example(latents=latents, mirrored=None, prompt=prompt, frame=frame)


@contextmanager
def running(studio: Studio, config: TrainingConfig) -> Iterator[Loop]:
    """A loop in the middle of a training: everything that learns has moved."""
    with (
        studio.bases.borrow(studio.base) as base,
        base.with_token(TOKEN, base.initial_rows("apple", config.seed, config.num_vectors)) as rows,
    ):
        attachment = METHODS[config.method].attach(base, rows, config)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in attachment.parameters.values():
                parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
        row_learns = any(row.requires_grad for row in rows.values())
        plan = BatchPlan(
            instances=[example(number, caption) for number, caption in enumerate(CAPTIONS)],
            class_examples=[example(100 + number, CLASS_PROMPT) for number in range(4)],
            config=config,
            draw_timesteps=base.draw_timesteps,
        )
        try:
            yield Loop(
                base=base,
                attachment=attachment,
                plan=plan,
                conditioning=PromptConditioning(
                    base, lambda prompt: attachment.text_encoder_learns or (row_learns and TOKEN in prompt)
                ),
                config=config,
                checkpoints=cast(Any, None),
                metrics=cast(Any, None),
                looks=cast(Any, None),
            )
        finally:
            attachment.detach()


def gradients(loop: Loop, loss: Tensor) -> dict[str, Tensor]:
    parameters = loop.attachment.parameters
    if not loss.requires_grad:
        return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }


def told_alone(base: Family, prompt: str, frame: Tensor) -> Conditioning:
    return base.encode_prompts([prompt]) | base.picture_conditioning(frame[None], 1.0)


def prior_alone(base: Family, batch: Batch) -> Tensor:
    """The class images' loss, picture by picture, with the prompts of a class."""
    losses: list[Tensor] = []
    for number in range(batch.num_instances, len(batch.latents)):
        one = slice(number, number + 1)
        latents, noise, timesteps = batch.latents[one], batch.noise[one], batch.timesteps[one]
        noisy = base.add_noise(latents, noise, timesteps)
        prediction = base.predict(noisy, timesteps, told_alone(base, CLASS_PROMPT, batch.frames[number]))
        losses.append(torch.nn.functional.mse_loss(prediction, base.target(latents, noise, timesteps)))
    return torch.stack(losses).mean()


def only_instances(batch: Batch) -> Batch:
    size = batch.num_instances
    return replace(
        batch,
        latents=batch.latents[:size],
        noise=batch.noise[:size],
        timesteps=batch.timesteps[:size],
        prompts=batch.prompts[:size],
        frames=batch.frames[:size],
    )


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_prior_terms_gradient_is_that_of_the_term_alone(
    batch_size: int, pair: Pair, family_studios: dict[str, Studio]
) -> None:
    with running(family_studios[pair.family], pair.config(batch_size)) as loop:
        (batch,) = loop.plan.batch(2)
        whole = gradients(loop, loop.losses([batch]).total)
        instance = gradients(loop, loop.losses([only_instances(batch)]).total)
        alone = gradients(loop, prior_alone(loop.base, batch))
    learns_from_prior = any(each.abs().max() > 1e-5 for each in alone.values())
    assert learns_from_prior is (pair.method is not Method.TEXTUAL_INVERSION)
    for name, gradient in whole.items():
        torch.testing.assert_close(
            gradient, instance[name] + PRIOR_WEIGHT * alone[name], rtol=1e-3, atol=1e-5, msg=lambda _, name=name: name
        )


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_picture_is_predicted_with_its_own_prompt(
    batch_size: int, pair: Pair, family_studios: dict[str, Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Conditioning] = []
    with running(family_studios[pair.family], pair.config(batch_size)) as loop, torch.no_grad():
        examples = [*loop.plan.instances, *loop.plan.class_examples]
        predict = loop.base.predict

        def spy(noisy: Tensor, timesteps: Tensor, told: Conditioning) -> Tensor:
            seen.append(told)
            return predict(noisy, timesteps, told)

        monkeypatch.setattr(loop.base, "predict", spy)
        for step in range(3):
            (batch,) = loop.plan.batch(step)
            loop.losses([batch])
            for number, latents in enumerate(batch.latents):
                (own,) = (each for each in examples if torch.equal(each.latents.mean, latents))
                expected = told_alone(loop.base, own.prompt, torch.tensor(own.frame, dtype=torch.float32))
                assert expected.keys() == seen[-1].keys()
                for name, tensor in expected.items():
                    torch.testing.assert_close(seen[-1][name][number], tensor[0], rtol=1e-4, atol=1e-5)
    assert len(seen) == 3
    assert len(seen[0]["hidden_states"]) == 2 * batch_size


def test_what_is_saved_loaded_and_applied_samples_as_the_attached_module(
    pair: Pair, family_studios: dict[str, Studio]
) -> None:
    studio, config = family_studios[pair.family], pair.config()
    before = base_state(studio)
    latents = torch.randn(2, 4, EDGE, EDGE, generator=torch.Generator().manual_seed(1))
    prompts = [f"a {PHRASE} on grass", "a pear"]
    header = WeightsHeader(
        method=pair.method,
        family=pair.family,
        base_digest=studio.base.digest,
        token=TOKEN,
        trained_phrase=PHRASE,
        class_noun="apple",
        rank=config.rank,
        alpha=config.rank,
        config="{}",
    )
    with running(studio, config) as loop, torch.no_grad():
        attached = ours(loop.base, latents, prompts)
        start = loop.base.text_encoders
        rows = {name: encoder.get_input_embeddings().rows for name, encoder in start.items()}  # type: ignore[operator]
        learned = loop.attachment.parameters | {TOKEN_PREFIX + name: each for name, each in rows.items()}
        data = write_weights(header, learned)
    assert base_state(studio) == before
    read, tensors = read_weights(data)
    with studio.bases.borrow(studio.base) as base, torch.no_grad():
        bare = ours(base, latents, prompts)
        with base.with_token(TOKEN, token_rows(tensors)):
            take_out = METHODS[pair.method].apply(base, read, tensors)
            applied = ours(base, latents, prompts)
            take_out()
    assert base_state(studio) == before
    assert (applied - attached).abs().max() <= 1e-4
    assert (applied[0] - bare[0]).abs().max() > 1e-3
    assert torch.equal(applied[1], bare[1]) is (pair.method is Method.TEXTUAL_INVERSION)
