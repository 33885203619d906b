"""Options of the loop, each with its effect."""

import importlib.util
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import (
    PHRASE,
    QUICK,
    Studio,
    base_state,
    half_mask,
    never,
    png,
    save_pipeline,
    silent,
    task,
    train,
)
from safetensors.torch import load
from torch import Tensor

from packshot.diffusion.batches import BatchPlan, Example
from packshot.diffusion.optimizers import Optimizer, learning_rate_factor
from packshot.diffusion.pictures import bucket, frame_of_png, mask_from_png, pixels_from_png
from packshot.diffusion.protocols import LatentDistribution, ParameterGroup
from packshot.domain.errors import Interrupted, InvalidConfiguration
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, Method, MixedPrecision, OptimizerKind, Schedule
from packshot.ports import Progress, TrainingExample

Run = Callable[..., Any]
PRODIGY = {"optimizer": OptimizerKind.PRODIGY, "learning_rate": 1.0, "token_learning_rate": 1.0}
STILL = {"learning_rate": 0.0, "token_learning_rate": 0.0, "weight_decay": 0.0}


@pytest.fixture
def run(studio: Studio, cachedir: Path, tmp_path: Path) -> Run:
    """Train with changes to the quick configuration; gives the metrics and the tensors."""
    count = 0

    def train_with(photos: tuple[TrainingExample, ...] | None = None, **changes: Any) -> Any:
        nonlocal count
        count += 1
        config = replace(QUICK, method=Method.PIVOTAL, **changes)
        of = task(studio, tmp_path / str(count), config=config, photos=photos, cachedir=cachedir)
        trained = train(studio, of)
        return trained.metrics, load(trained.files["weights.safetensors"])

    return train_with


def test_accumulated_gradients_are_the_mean_of_the_batches(run: Run) -> None:
    separate, _ = run(steps=2, **STILL)
    (together,), _ = run(steps=1, gradient_accumulation_steps=2, **STILL)
    for name in ("loss", "instance_loss", "prior_loss"):
        assert together[name] == pytest.approx((separate[0][name] + separate[1][name]) / 2, rel=1e-6)
    assert 0 < together["gradient_norm"] <= (separate[0]["gradient_norm"] + separate[1]["gradient_norm"]) / 2 + 1e-6


class Held:
    """Counts the bytes that the backward pass keeps."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def keep(self, tensor: Tensor) -> "Kept":
        return Kept(self, tensor)


class Kept:
    def __init__(self, held: Held, tensor: Tensor) -> None:
        self.held, self.tensor = held, tensor
        held.now += tensor.nbytes
        held.most = max(held.most, held.now)

    def __del__(self) -> None:
        self.held.now -= self.tensor.nbytes


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # FLUX's norms keep theirs in 32 bits
@pytest.mark.parametrize("precision", [MixedPrecision.NO, MixedPrecision.BF16])
@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_gradients_take_less_memory_for_the_same_losses(
    family: str, precision: MixedPrecision, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    studio = family_studios[family]
    before = base_state(studio)
    most, curves = [], []
    for recomputed in (False, True):
        config = quick(
            family,
            method=Method.FULL,
            steps=2,
            prior_weight=0.0,
            gradient_checkpointing=recomputed,
            mixed_precision=precision,
        )
        of = task(studio, tmp_path / str(recomputed), config=config, cachedir=cachedir)
        held = Held()
        with torch.autograd.graph.saved_tensors_hooks(held.keep, lambda kept: kept.tensor):
            curves.append([row["loss"] for row in train(studio, of).metrics])
        most.append(held.most)
    assert curves[1] == pytest.approx(curves[0], rel=1e-6)
    assert most[1] < 0.8 * most[0]
    assert base_state(studio) == before
    with studio.bases.borrow(studio.base) as base:
        assert not base.denoiser.is_gradient_checkpointing


@pytest.mark.parametrize("half", [MixedPrecision.BF16, MixedPrecision.FP16])
def test_half_floats_give_nearly_the_same_losses_and_full_weights(half: MixedPrecision, run: Run) -> None:
    plain, _ = run(steps=3)
    rounded, tensors = run(steps=3, mixed_precision=half)
    losses = [[row["loss"] for row in rows] for rows in (plain, rounded)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


@pytest.mark.filterwarnings(
    "ignore:Mismatch dtype between input and weight"
)  # FLUX's norms keep their weights in 32 bits
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("half", [MixedPrecision.BF16, MixedPrecision.FP16])
def test_every_family_trains_in_half_floats(
    half: MixedPrecision, family: str, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    studio = family_studios[family]
    config = quick(family, steps=2, mixed_precision=half, train_text_encoder=True)
    metrics = train(studio, task(studio, tmp_path, config=config, cachedir=cachedir)).metrics
    assert all(math.isfinite(row["loss"]) for row in metrics)


def stopped_and_resumed(studio: Studio, folder: Path, config: TrainingConfig, cachedir: Path) -> list[Any]:
    """What an uninterrupted run gives, and one that was stopped after three steps."""
    seen: list[int] = []

    def report(progress: Progress) -> None:
        if progress.phase == "training":
            seen.append(progress.step)

    whole = train(studio, task(studio, folder / "whole", config=config, cachedir=cachedir))
    of = task(studio, folder / "halted", config=config, cachedir=cachedir)
    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=report, stop=lambda: len(seen) >= 3)
    return [whole, studio.trainer.train(of, report=silent, stop=never)]


@pytest.mark.parametrize(
    "changes",
    [
        {"mixed_precision": MixedPrecision.FP16},
        {"ema_decay": 0.9},
        {"learning_rate_schedule": Schedule.COSINE, "warmup_steps": 2},
        {"gradient_accumulation_steps": 2, "noise_offset": 0.1, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    changes: dict[str, Any], studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    whole, resumed = stopped_and_resumed(studio, tmp_path, replace(QUICK, **changes), cachedir)
    assert whole == resumed


def test_a_step_whose_half_gradients_overflow_is_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def scaler(device: str, *, enabled: bool) -> Any:
        return torch.cuda.amp.GradScaler.__mro__[1](device, enabled=enabled, init_scale=2.0**60)

    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    metrics, tensors = run(steps=1, mixed_precision=MixedPrecision.FP16)
    assert "gradient_norm" not in metrics[0]
    assert all((each == 0).all() for name, each in tensors.items() if ".lora_B." in name)


MISSING = importlib.util.find_spec("bitsandbytes") is None


@pytest.mark.skipif(MISSING, reason="bitsandbytes is not installed")
def test_the_8_bit_optimiser_learns_and_resumes(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    config = replace(QUICK, method=Method.FULL, optimizer=OptimizerKind.ADAMW_8BIT)
    whole, resumed = stopped_and_resumed(studio, tmp_path, config, cachedir)
    assert whole == resumed
    plain = train(studio, task(studio, tmp_path / "plain", config=replace(config, optimizer=OptimizerKind.ADAMW)))
    assert whole.metrics[0]["loss"] == plain.metrics[0]["loss"]
    assert whole.metrics[-1]["loss"] == pytest.approx(plain.metrics[-1]["loss"], rel=0.05)
    assert whole.metrics[-1]["loss"] != plain.metrics[-1]["loss"]


@pytest.mark.parametrize("half", [MixedPrecision.NO, MixedPrecision.FP16])
def test_prodigy_learns_and_resumes(half: MixedPrecision, studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    """Of two groups, one of which has no gradient in steps whose captions are dropped."""
    config = replace(QUICK, **PRODIGY, train_text_encoder=True, caption_dropout=0.5, batch_size=1, mixed_precision=half)
    whole, resumed = stopped_and_resumed(studio, tmp_path, config, cachedir)
    assert whole == resumed
    plain = replace(config, optimizer=OptimizerKind.ADAMW, learning_rate=1e-6, token_learning_rate=1e-6)
    slow = train(studio, task(studio, tmp_path / "plain", config=plain, cachedir=cachedir))
    assert whole.metrics[0] == slow.metrics[0]
    assert whole.files != slow.files


@pytest.mark.parametrize("distance", [1e-2, 1.0, 100.0])
def test_prodigy_finds_its_step_size_whatever_the_distance_of_each_group(distance: float) -> None:
    """Its first step is 1e-6 in every number."""
    parameters = {"near": torch.nn.Parameter(torch.zeros(4)), "far": torch.nn.Parameter(torch.zeros(4))}
    goals = {"near": torch.tensor([1.0, -1.0, 0.5, 2.0]), "far": distance * torch.tensor([1.0, -1.0, 0.5, 2.0])}
    groups = [ParameterGroup(parameters={name: each}, learning_rate=1.0) for name, each in parameters.items()]
    config = replace(QUICK, **PRODIGY, steps=500, learning_rate_schedule=Schedule.COSINE, weight_decay=0.0)
    optimizer = Optimizer(groups, replace(config, max_gradient_norm=1e6), torch.device("cpu"))
    for step in range(config.steps):
        optimizer.zero_grad()
        sum((parameters[name] - goal).square().sum() for name, goal in goals.items()).backward()
        optimizer.step(step)
    for name, goal in goals.items():
        assert (parameters[name] - goal).abs().max() < 0.02 * goal.abs().max()


@pytest.mark.parametrize(
    ("kind", "library"), [(OptimizerKind.ADAMW_8BIT, "bitsandbytes"), (OptimizerKind.PRODIGY, "prodigyopt")]
)
def test_an_optimiser_that_is_not_there_is_refused_before_anything_is_loaded(
    kind: OptimizerKind, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Studio(save_pipeline(tmp_path / "base"))
    shutil.rmtree(studio.folder)
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with pytest.raises(InvalidConfiguration, match=f"optimizer is {kind}, and {library} is not installed; install it"):
        train(studio, task(studio, tmp_path / "run", config=replace(QUICK, optimizer=kind)))


def test_the_average_of_what_was_learned_is_saved(run: Run) -> None:
    _, expected = run(steps=1, **STILL)  # where everything starts
    for step in range(4):
        _, learned = run(steps=step + 1)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = {name: decay * each + (1 - decay) * learned[name] for name, each in expected.items()}
    _, averaged = run(steps=4, ema_decay=0.3)
    for name, each in expected.items():
        torch.testing.assert_close(averaged[name], each, rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(averaged[name], learned[name]) for name in learned)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Schedule.CONSTANT, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        (Schedule.LINEAR, [1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25]),
        (Schedule.COSINE, [1 / 3, 2 / 3, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_learning_rates_rise_in_warm_up_and_follow_their_schedule(schedule: Schedule, factors: list[float]) -> None:
    config = replace(QUICK, steps=6, warmup_steps=2, learning_rate_schedule=schedule)
    assert [learning_rate_factor(config, step) for step in range(6)] == pytest.approx(factors)


def test_the_first_step_of_a_warm_up_is_smaller(run: Run) -> None:
    """AdamW's first step is the learning rate in every number."""
    start, full, warm = (
        run(steps=1, **changes)[1]["token.text_encoder"] for changes in (STILL, {}, {"warmup_steps": 3})
    )
    assert (full - start).abs().mean().item() == pytest.approx(QUICK.token_learning_rate, rel=1e-2)
    assert (warm - start).abs().mean().item() == pytest.approx(QUICK.token_learning_rate / 4, rel=1e-2)


def example(number: int, shape: tuple[int, int]) -> Example:
    mean = torch.randn(4, *shape, generator=torch.Generator().manual_seed(number))
    height, width = 2 * shape[0], 2 * shape[1]
    return Example(
        latents=LatentDistribution(mean=mean, std=torch.full_like(mean, 0.1)),
        mirrored=None,
        prompt=f"{PHRASE} {number}",
        frame=(height, width, 0, 0, height, width),
        mask=torch.ones(1, *shape) if number % 2 else None,
    )


def plan(config: TrainingConfig, shapes: list[tuple[int, int]]) -> BatchPlan:
    return BatchPlan(
        instances=[example(number, shape) for number, shape in enumerate(shapes)],
        class_examples=[example(100 + number, (8, 8)) for number in range(4)],
        config=replace(config, horizontal_flip=HorizontalFlip.OFF),
        draw_timesteps=lambda count, generator: torch.randint(1000, (count,), generator=generator),
    )


def test_the_noise_offset_is_equal_all_over_a_channel_and_shifts_no_other_draw() -> None:
    plain, offset = (plan(replace(QUICK, noise_offset=each), [(8, 8)] * 3).batch(0)[0] for each in (0.0, 0.5))
    difference = offset.noise - plain.noise
    assert torch.allclose(difference, difference[:, :, :1, :1].expand_as(difference), atol=1e-6)
    assert 0.2 < difference[:, :, 0, 0].std() < 0.9
    assert torch.equal(plain.latents, offset.latents)
    assert torch.equal(plain.timesteps, offset.timesteps)


@pytest.mark.parametrize("cell", [4, 8, 64])
@pytest.mark.parametrize("size", [(512, 512), (1000, 500), (300, 900), (640, 480), (5000, 100)])
def test_a_bucket_is_near_in_shape_and_of_about_the_same_area(cell: int, size: tuple[int, int]) -> None:
    width, height = bucket(png(0, size=size), 512, cell)
    assert width % 64 == height % 64 == 0
    assert 0.7 * 512**2 <= width * height <= 512**2
    wanted = min(4.0, max(0.25, size[0] / size[1]))
    assert abs(math.log(width / height / wanted)) < 0.35
    assert (width, height) == (512, 512) or size != (512, 512)


def test_a_bucket_cuts_picture_mask_and_frame_alike() -> None:
    size = bucket(png(0, size=(40, 20)), 16, 4)
    assert size == (20, 12)
    assert pixels_from_png(png(0, size=(40, 20)), size).shape == (3, 12, 20)
    # 33 of 40 columns are kept, from the fourth.
    assert frame_of_png(png(0, size=(40, 20)), size) == (20, 40, 0, 1, 12, 20)
    mask = mask_from_png(half_mask(size=(40, 20)), size, (6, 10))
    assert mask.shape == (1, 6, 10)
    assert mask.mean().item() == pytest.approx(17 / 33, abs=0.02)


def test_a_batch_of_several_shapes_comes_in_parts_that_hold_it_once() -> None:
    batches = plan(replace(QUICK, batch_size=3), [(6, 10), (8, 8), (10, 6)])
    parts = batches.batch(0)
    assert {tuple(part.latents.shape[2:]): part.num_instances for part in parts} == {(6, 10): 1, (8, 8): 1, (10, 6): 1}
    assert [len(part.latents) - part.num_instances for part in parts if part.latents.shape[2:] == (8, 8)] == [3]
    for part in parts:
        assert part.noise.shape == part.latents.shape
        assert part.weights.shape == (part.num_instances, 1, *part.latents.shape[2:])
        for latents, prompt in zip(part.latents, part.prompts, strict=True):
            own = example(int(prompt.rpartition(" ")[2]), tuple(latents.shape[1:]))  # type: ignore[arg-type]
            assert (latents - own.latents.mean).abs().max() < 0.6


@pytest.mark.parametrize("family", FAMILIES)
def test_photos_of_several_shapes_train_together(
    family: str, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    studio = family_studios[family]
    sizes = [(40, 20), (20, 20), (20, 40)]
    photos = tuple(
        TrainingExample(image=png(number, size=size), caption="", mask=half_mask(size=size))
        for number, size in enumerate(sizes)
    )
    buckets = quick(family, steps=1, batch_size=3, aspect_ratio_buckets=True, horizontal_flip=HorizontalFlip.OFF)
    losses = [
        train(studio, task(studio, tmp_path / name, config=config, photos=photos, cachedir=cachedir)).metrics[0]
        for name, config in (("buckets", buckets), ("squares", replace(buckets, aspect_ratio_buckets=False)))
    ]
    assert math.isfinite(losses[0]["gradient_norm"])
    assert losses[0]["instance_loss"] != losses[1]["instance_loss"]
