"""Training through the port: reproducible, resumable to the bit, and the base is left as it was found."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from fixtures_pipelines import (
    PHRASE,
    QUICK,
    TOKEN,
    Studio,
    base_state,
    examples,
    half_mask,
    never,
    png,
    silent,
    task,
    train,
)
from safetensors.torch import load

from packshot.diffusion.weights import read_weights
from packshot.domain.errors import Conflict, Interrupted, InvalidConfiguration, WorkspaceUnusable
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, LossTarget, Method, MixedPrecision, Schedule, Targets
from packshot.ports import Progress, TrainedWeights, TrainingTask

METHODS = list(Method)
TEXT_METHODS = [method for method in Method if method.can_train_text_encoder]


def stop_after(step: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    """A report and a stop that is true once ``step`` training steps were reported."""
    seen: list[int] = []

    def report(progress: Progress) -> None:
        if progress.phase == "training":
            seen.append(progress.step)

    return report, lambda: bool(seen) and seen[-1] >= step


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return request.param


@pytest.fixture(scope="module")
def uninterrupted(
    method: Method, studio: Studio, cachedir: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedWeights:
    return train(studio, task(studio, tmp_path_factory.mktemp("runs") / "run", method=method, cachedir=cachedir))


def test_a_second_run_is_the_same_to_the_bit(
    uninterrupted: TrainedWeights, method: Method, base_folder: Path, tmp_path: Path
) -> None:
    other = Studio(base_folder)
    assert train(other, task(other, tmp_path / "run", method=method)) == uninterrupted


@pytest.mark.parametrize("step", [1, 4, 5])
def test_an_interrupted_run_goes_on_to_the_same_weights_and_metrics(
    uninterrupted: TrainedWeights, method: Method, step: int, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    of = task(studio, tmp_path / "run", method=method, cachedir=cachedir)
    report, stop = stop_after(step)
    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=report, stop=stop)
    reported: list[Progress] = []
    resumed = studio.trainer.train(of, report=reported.append, stop=never)
    assert resumed == uninterrupted
    assert [each.step for each in reported if each.phase == "training"] == list(range(step + 1, QUICK.steps + 1))
    rows = (of.workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == list(uninterrupted.metrics)


def test_a_torn_checkpoint_is_passed_over(
    uninterrupted: TrainedWeights, method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    of = task(studio, tmp_path / "run", method=method, cachedir=cachedir)
    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=(two := stop_after(2))[0], stop=two[1])
    checkpoints = of.workdir / "checkpoints"
    kept = shutil.copytree(checkpoints / "step-00000002", tmp_path / "kept")
    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=(five := stop_after(5))[0], stop=five[1])
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000005"]
    shutil.copytree(kept, checkpoints / "step-00000002")
    state = checkpoints / "step-00000005" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    reported: list[Progress] = []
    assert studio.trainer.train(of, report=reported.append, stop=never) == uninterrupted
    assert next(each.step for each in reported if each.phase == "training") == 3


def test_the_base_is_left_as_it_was(method: Method, studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    before = base_state(studio)
    train(studio, task(studio, tmp_path / "done", method=method, cachedir=cachedir))
    assert base_state(studio) == before
    with pytest.raises(Interrupted):
        report, stop = stop_after(2)
        studio.trainer.train(task(studio, tmp_path / "run", method=method, cachedir=cachedir), report=report, stop=stop)
    assert base_state(studio) == before


@pytest.mark.parametrize("text", [False, True])
def test_only_what_the_method_names_is_in_the_weights(
    method: Method, text: bool, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    text = text and method.can_train_text_encoder
    config = replace(QUICK, steps=1, method=method, train_text_encoder=text)
    of = task(studio, tmp_path / "run", config=config, cachedir=cachedir)
    header, tensors = read_weights(train(studio, of).files["weights.safetensors"])
    assert (header.method, header.token, header.trained_phrase) == (method, TOKEN, PHRASE)
    assert (header.base_digest, header.rank, header.alpha) == (studio.base.digest, 2, 2)
    assert json.loads(header.config) == config.to_dict()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert tensors["token.text_encoder"].shape == (1, 16)
    assert any(name.startswith("unet.") for name in tensors) is (method is not Method.TEXTUAL_INVERSION)
    assert any(name.startswith("text_encoder.") for name in tensors) is text
    assert not any("token_embedding" in name for name in tensors)
    if method is not Method.FULL:
        infix = ".hypernetwork." if method is Method.HYPERNETWORK else ".lora_"
        assert all(infix in name for name in tensors if not name.startswith("token."))


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_the_text_encoder_learns_only_when_asked(
    method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    before = base_state(studio)
    config = replace(QUICK, method=method, train_text_encoder=True)
    of = task(studio, tmp_path / "run", config=config, cachedir=cachedir)
    report, stop = stop_after(3)
    trained = train(studio, of)
    assert trained.metrics != train(studio, task(studio, tmp_path / "plain", method=method, cachedir=cachedir)).metrics
    again = replace(of, workdir=tmp_path / "again")
    with pytest.raises(Interrupted):
        studio.trainer.train(again, report=report, stop=stop)
    assert train(studio, again) == trained
    assert base_state(studio) == before


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_the_text_encoders_rate_is_their_own(method: Method, studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    config = replace(QUICK, steps=1, method=method, train_text_encoder=True)
    plain, slower = (
        load(train(studio, task(studio, tmp_path / name, config=each, cachedir=cachedir)).files["weights.safetensors"])
        for name, each in (("plain", config), ("slower", replace(config, text_encoder_learning_rate=1e-6)))
    )
    moved = {name for name in plain if not torch.equal(plain[name], slower[name])}
    assert any(name.startswith("text_encoder.") for name in moved)
    assert not any(name.startswith("unet.") for name in moved)


def test_the_token_learns_where_the_method_says_so(
    uninterrupted: TrainedWeights, method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    first = train(studio, task(studio, tmp_path, config=replace(QUICK, steps=1), method=method, cachedir=cachedir))
    row, later = (load(each.files["weights.safetensors"])["token.text_encoder"] for each in (first, uninterrupted))
    assert torch.equal(row, later) is (method not in (Method.PIVOTAL, Method.TEXTUAL_INVERSION))


def test_a_token_of_the_vocabulary_is_refused(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    before = base_state(studio)
    with pytest.raises(InvalidConfiguration, match="vocabulary"):
        train(studio, task(studio, tmp_path, token="apple</w>", cachedir=cachedir))
    assert base_state(studio) == before


def test_a_run_does_not_go_on_from_another_ones_checkpoint(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    of = task(studio, tmp_path, cachedir=cachedir)
    report, stop = stop_after(2)
    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=report, stop=stop)
    for other in (replace(of, config=replace(of.config, seed=1)), replace(of, examples=examples(6))):
        with pytest.raises(Conflict, match="another training"):
            train(studio, other)


def test_a_full_disk_leaves_the_earlier_checkpoint(
    studio: Studio, cachedir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = task(studio, tmp_path, cachedir=cachedir)
    report, stop = stop_after(2)
    with pytest.raises(Interrupted):
        studio.trainer.train(of, report=report, stop=stop)

    def full(handle: int) -> None:
        del handle
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("packshot.diffusion.durable.os.fsync", full)
        with pytest.raises(WorkspaceUnusable, match="No space left"):
            train(studio, of)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    train(studio, of)


def test_class_images_are_made_once_for_all_runs(base_folder: Path, tmp_path: Path) -> None:
    studio = Studio(base_folder)
    cache = tmp_path / "cache"

    def phases(of: TrainingTask) -> list[Progress]:
        reported: list[Progress] = []
        studio.trainer.train(of, report=reported.append, stop=never)
        return [each for each in reported if each.phase == "class images"]

    first = task(studio, tmp_path / "one", config=replace(QUICK, seed=1, steps=1), cachedir=cache)
    made = phases(first)
    assert [made[-1].step, made[-1].num_steps] == [QUICK.num_class_images] * 2
    other = replace(
        first,
        examples=tuple(replace(each, image=png(100 + number)) for number, each in enumerate(examples())),
        token="<packshot-ffffffffffff>",
        trained_phrase="<packshot-ffffffffffff> apple",
        config=replace(QUICK, seed=2, steps=2, method=Method.FULL),
        workdir=tmp_path / "two",
    )
    assert phases(other) == []
    assert len(list(cache.glob("class-images/*"))) == 1
    assert phases(replace(other, class_noun="pear", workdir=tmp_path / "three"))
    assert len(list(cache.glob("class-images/*"))) == 2


def test_interrupted_class_images_go_on_with_the_same_bytes(studio: Studio, tmp_path: Path) -> None:
    config = replace(QUICK, steps=1, num_class_images=20)
    whole = task(studio, tmp_path / "one", config=config, cachedir=tmp_path / "whole")
    expected = train(studio, whole)
    halted = replace(whole, workdir=tmp_path / "two", cachedir=tmp_path / "halted")
    reported: list[Progress] = []
    with pytest.raises(Interrupted):
        studio.trainer.train(halted, report=reported.append, stop=lambda: len(reported) > 4)
    chunks = [path.name for path in (tmp_path / "halted").glob("class-images/*/*") if path.is_dir()]
    assert chunks == ["00000"]
    damaged = next((tmp_path / "halted").glob("class-images/*/00000/03.png"))
    damaged.write_bytes(b"")
    assert train(studio, halted) == expected


def test_damaged_latents_are_encoded_anew(studio: Studio, tmp_path: Path) -> None:
    of = task(studio, tmp_path / "one", config=replace(QUICK, steps=1))
    expected = train(studio, of)
    for path in of.cachedir.glob("latents/*"):
        path.write_bytes(path.read_bytes()[:40])
    assert train(studio, replace(of, workdir=tmp_path / "two")) == expected


def test_a_diverging_training_says_what_to_lower(
    studio: Studio, cachedir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with studio.bases.borrow(studio.base) as base:
        monkeypatch.setattr(base, "target", lambda latents, *_: torch.full_like(latents, torch.inf))
        with pytest.raises(InvalidConfiguration, match="lower learning_rate"):
            train(studio, task(studio, tmp_path, cachedir=cachedir))


SHORT = replace(QUICK, steps=2)
CHANGES: dict[str, TrainingConfig] = {
    "method": replace(SHORT, method=Method.LORA),
    "steps": replace(SHORT, steps=3),
    "batch_size": replace(SHORT, batch_size=3),
    "gradient_accumulation_steps": replace(SHORT, gradient_accumulation_steps=2),
    "mixed_precision": replace(SHORT, mixed_precision=MixedPrecision.BF16),
    "learning_rate_schedule": replace(SHORT, learning_rate_schedule=Schedule.COSINE),
    "warmup_steps": replace(SHORT, warmup_steps=1),
    "learning_rate": replace(SHORT, learning_rate=2e-3),
    "token_learning_rate": replace(SHORT, token_learning_rate=2e-2),
    "weight_decay": replace(SHORT, weight_decay=0.5),
    "max_gradient_norm": replace(SHORT, max_gradient_norm=1e-4),
    "ema_decay": replace(SHORT, ema_decay=0.5),
    "noise_offset": replace(SHORT, noise_offset=0.1),
    "snr_gamma": replace(SHORT, snr_gamma=0.1),
    "num_vectors": replace(SHORT, num_vectors=2),
    "rank": replace(SHORT, rank=3),
    "use_dora": replace(SHORT, use_dora=True),
    "targets": replace(SHORT, targets=Targets.ATTENTION),
    "train_text_encoder": replace(SHORT, train_text_encoder=True),
    "resolution": replace(SHORT, resolution=8),
    "horizontal_flip": replace(SHORT, horizontal_flip=HorizontalFlip.OFF),
    "prior_target": replace(SHORT, prior_target=LossTarget.BASE),
    "background_target": replace(SHORT, background_target=LossTarget.BASE),
    "background_replacement": replace(SHORT, background_target=LossTarget.BASE, background_replacement=1.0),
    "caption_dropout": replace(SHORT, caption_dropout=0.9),
    "background_weight": replace(SHORT, background_weight=0.1),
    "prior_weight": replace(SHORT, prior_weight=0.5),
    "num_class_images": replace(SHORT, num_class_images=4),
    "class_captions": replace(SHORT, class_captions=True),
    "class_inference_steps": replace(SHORT, class_inference_steps=3),
    "class_guidance_scale": replace(SHORT, class_guidance_scale=2.0),
    "seed": replace(SHORT, seed=1),
}


@pytest.fixture(scope="module")
def masked(
    studio: Studio, cachedir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingTask, dict[str, torch.Tensor]]:
    of = task(
        studio, tmp_path_factory.mktemp("masked"), config=SHORT, photos=examples(mask=half_mask()), cachedir=cachedir
    )
    return of, load(train(studio, of).files["weights.safetensors"])


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_of_the_configuration_changes_the_weights(
    field: str, studio: Studio, masked: tuple[TrainingTask, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    of, plain = masked
    changed = train(studio, replace(of, config=CHANGES[field], workdir=tmp_path / "changed"))
    tensors = [plain, load(changed.files["weights.safetensors"])]
    same_shapes = [{name: tensor.shape for name, tensor in each.items()} for each in tensors]
    different = same_shapes[0] != same_shapes[1] or any(
        not torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0]
    )
    assert different


def test_no_field_is_left_untested() -> None:
    elsewhere = {
        "checkpoint_every_steps",
        "text_encoder_learning_rate",
        "gradient_checkpointing",
        "optimizer",
        "aspect_ratio_buckets",
        "choose_steps",
        "validation_prompts",
        "validation_every_steps",
    }
    assert set(CHANGES) | elsewhere == {field.name for field in fields(TrainingConfig)}


@pytest.mark.parametrize(("every", "kept"), [(2, "step-00000006"), (4, "step-00000004")])
def test_checkpoints_come_every_so_many_steps(
    every: int, kept: str, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    of = task(studio, tmp_path, config=replace(QUICK, checkpoint_every_steps=every), cachedir=cachedir)
    studio.trainer.train(of, report=silent, stop=never)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [kept]


def test_without_prior_preservation_no_class_image_is_made(studio: Studio, tmp_path: Path) -> None:
    of = task(studio, tmp_path / "run", config=replace(QUICK, prior_weight=0.0))
    trained = train(studio, of)
    assert not (of.cachedir / "class-images").exists()
    assert all("prior_loss" not in row and row["loss"] == row["instance_loss"] for row in trained.metrics)


def test_a_mask_without_product_counts_as_none(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    config = replace(QUICK, background_weight=0.0)
    trained = [
        train(studio, task(studio, tmp_path / name, config=config, photos=examples(mask=mask), cachedir=cachedir))
        for name, mask in (("empty", half_mask(product=0)), ("none", None))
    ]
    assert trained[0].metrics == trained[1].metrics
