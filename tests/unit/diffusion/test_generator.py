"""Generation through the port."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures_pipelines import (
    PHRASE,
    QUICK,
    TOKEN,
    Studio,
    base_state,
    held,
    loaded,
    png,
    save_pipeline,
    silent,
    task,
    train,
    without_progress_bars,
)
from PIL import Image
from safetensors.torch import load, save

from packshot.domain.errors import CorruptArtifact, IncompatibleFineTune, InvalidInput
from packshot.domain.generation import SamplingSettings
from packshot.domain.training_choices import Method
from packshot.ports import LoadedFineTune, Progress

SAMPLING = SamplingSettings(seed=3, num_images=2, inference_steps=4, guidance_scale=3.0)
CONFIG = replace(QUICK, learning_rate=1e-2)


@pytest.fixture(scope="module", params=list(Method))
def fine_tune(
    request: pytest.FixtureRequest, studio: Studio, cachedir: Path, tmp_path_factory: pytest.TempPathFactory
) -> LoadedFineTune:
    method: Method = request.param
    config = replace(CONFIG, method=method, train_text_encoder=method.can_train_text_encoder)
    of = task(studio, tmp_path_factory.mktemp("run"), config=config, cachedir=cachedir)
    return loaded(studio, of, train(studio, of).files["weights.safetensors"])


def generate(
    studio: Studio, prompts: list[str], sampling: SamplingSettings = SAMPLING, fine_tune: LoadedFineTune | None = None
) -> list[bytes]:
    return studio.generator.generate(studio.base, fine_tune, prompts, sampling, report=silent)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.int16)


def test_the_same_call_gives_the_same_bytes(studio: Studio, base_folder: Path) -> None:
    pngs = generate(studio, ["an apple", "a pear"])
    assert generate(Studio(base_folder), ["an apple", "a pear"]) == pngs
    assert len(set(pngs)) == 4
    assert {pixels(png).shape for png in pngs} == {(16, 16, 3)}


def test_pictures_come_in_order_of_prompts_and_seeds_whatever_the_batch(studio: Studio, base_folder: Path) -> None:
    together = generate(studio, ["an apple", "a pear"])
    alone = [
        generate(
            Studio(base_folder, max_batch=1), [prompt], replace(SAMPLING, seed=SAMPLING.seed + number, num_images=1)
        )
        for prompt in ("an apple", "a pear")
        for number in range(2)
    ]
    for one, (other,) in zip(together, alone, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"inference_steps": 5},
        {"guidance_scale": 6.0},
        {"guidance_scale": 1.0},
        {"negative_prompt": "blurry"},
        {"width": 32},
        {"height": 24},
        {"scheduler": "euler"},
        {"scheduler": "ddim"},
    ],
)
def test_every_setting_has_an_effect(change: dict[str, Any], studio: Studio) -> None:
    plain, changed = (
        generate(studio, ["an apple"], replace(SAMPLING, num_images=1, **each))[0] for each in ({}, change)
    )
    assert plain != changed
    height, width, _ = pixels(changed).shape
    assert (width, height) == (change.get("width", 16), change.get("height", 16))


def test_the_strength_says_how_much_of_a_layout_stays(studio: Studio) -> None:
    layout = png(4, size=(40, 24))  # the middle of it
    pictures = {
        strength: pixels(
            studio.generator.generate(
                studio.base,
                None,
                ["an apple"],
                replace(SAMPLING, num_images=1, inference_steps=10, layout="0" * 64, strength=strength),
                report=silent,
                layout=layout,
            )[0]
        )
        for strength in (0.1, 0.5, 1.0)
    }
    kept = {strength: np.abs(picture - pictures[0.1]).mean() for strength, picture in pictures.items()}
    assert kept[0.1] < kept[0.5] < kept[1.0]


def test_a_strength_that_leaves_no_step_is_refused() -> None:
    with pytest.raises(InvalidInput, match="leaves none"):
        replace(SAMPLING, layout="0" * 64, strength=0.1)


def test_a_prompt_longer_than_the_encoder_is_cut(studio: Studio) -> None:
    long = "an apple " * 100
    assert generate(studio, [long]) == generate(studio, [long + "and a pear"])


def test_progress_counts_the_denoising_steps_of_all_pictures(studio: Studio) -> None:
    reported: list[Progress] = []
    sampling = replace(SAMPLING, num_images=5)
    studio.generator.generate(studio.base, None, ["an apple"] * 2, sampling, report=reported.append)
    assert list(dict.fromkeys(each.step for each in reported if each.step)) == [8, 16, 24, 32, 34, 36, 38, 40]
    assert {each.num_steps for each in reported} == {40}


def test_a_fine_tune_changes_the_pictures_and_leaves_the_base_as_it_was(
    fine_tune: LoadedFineTune, studio: Studio
) -> None:
    prompts = [f"a {PHRASE}", "an apple"]
    before, bare = base_state(studio), generate(studio, prompts)
    tuned = generate(studio, prompts, fine_tune=fine_tune)
    unnamed = slice(2, None) if fine_tune.record.method is Method.TEXTUAL_INVERSION else slice(0, 0)
    assert tuned[unnamed] == bare[unnamed]  # a prompt without the token
    named = slice(0, 2 if fine_tune.record.method is Method.TEXTUAL_INVERSION else 4)
    assert not set(tuned[named]) & set(bare[named])
    assert base_state(studio) == before
    assert generate(studio, prompts) == bare
    assert generate(studio, prompts, fine_tune=fine_tune) == tuned


def test_the_base_is_left_as_it_was_when_generation_is_interrupted(fine_tune: LoadedFineTune, studio: Studio) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt(progress.step)

    before = base_state(studio)
    with pytest.raises(KeyboardInterrupt):
        studio.generator.generate(studio.base, fine_tune, ["an apple"], SAMPLING, report=interrupt)
    assert base_state(studio) == before


def test_one_fine_tunes_token_means_nothing_to_another(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    mine, other = "<packshot-aaaaaaaaaaaa>", "<packshot-bbbbbbbbbbbb>"
    tuned = {}
    for token in (mine, other):
        of = task(studio, tmp_path / token, config=replace(QUICK, seed=len(tuned)), token=token, cachedir=cachedir)
        tuned[token] = loaded(studio, of, train(studio, of).files["weights.safetensors"])
    rows = [load(each.read())["token.text_encoder"] for each in tuned.values()]
    assert not torch.equal(*rows)
    with studio.bases.borrow(studio.base) as base:
        bare = base.encode_prompts([mine])["hidden_states"]
        with base.with_token(other, {"text_encoder": rows[1]}):
            assert torch.equal(base.encode_prompts([mine])["hidden_states"], bare)
            assert not torch.equal(base.encode_prompts([other])["hidden_states"], bare)


def test_a_fine_tune_of_another_base_is_refused(fine_tune: LoadedFineTune, tmp_path: Path) -> None:
    other = Studio(save_pipeline(tmp_path / "base", seed=1))
    before = base_state(other)
    with pytest.raises(IncompatibleFineTune, match="digest"):
        generate(other, ["an apple"], fine_tune=fine_tune)
    assert base_state(other) == before


@pytest.mark.parametrize("damage", ["empty", "truncated", "header", "foreign"])
def test_damaged_weights_are_refused(damage: str, fine_tune: LoadedFineTune, studio: Studio) -> None:
    data = {
        "empty": b"",
        "truncated": fine_tune.read()[:-10],
        "header": b"\xff" * 8 + fine_tune.read()[8:],
        "foreign": save({"unet.x.lora_A.weight": torch.zeros(2, 2)}, metadata={"format": "pt"}),
    }[damage]
    with pytest.raises(CorruptArtifact):
        generate(studio, ["an apple"], fine_tune=held(fine_tune.record, data))


@pytest.mark.parametrize("tuned", [False, True])
def test_pictures_equal_those_of_the_diffusers_pipeline(
    tuned: bool, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    with without_progress_bars():
        pipeline: Any = StableDiffusionPipeline.from_pretrained(studio.folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    fine_tune = None
    if tuned:
        of = task(studio, tmp_path, config=replace(QUICK, learning_rate=1e-2), method=Method.PIVOTAL, cachedir=cachedir)
        fine_tune = loaded(studio, of, train(studio, of).files["weights.safetensors"])
        tensors = load(fine_tune.read())
        row = tensors.pop("token.text_encoder")
        pipeline.load_lora_weights(tensors)
        pipeline.tokenizer.add_tokens([TOKEN])
        embeddings = pipeline.text_encoder.get_input_embeddings()
        embeddings.weight = torch.nn.Parameter(torch.cat([embeddings.weight.detach(), row]))
    prompt = f"a {PHRASE} on a table" if tuned else "an apple on a table"
    latents = torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(SAMPLING.seed))[None]
    expected = pipeline(
        prompt,
        latents=latents,
        num_inference_steps=SAMPLING.inference_steps,
        guidance_scale=SAMPLING.guidance_scale,
        output_type="np",
    ).images[0]
    (ours,) = generate(studio, [prompt], replace(SAMPLING, num_images=1), fine_tune)
    assert np.abs(pixels(ours) - np.round(expected * 255)).max() <= 1


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmsolver++"])
def test_bases_that_predict_something_else_make_the_pictures_of_the_diffusers_pipeline(
    prediction_type: str, scheduler: str, tmp_path: Path
) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    kinds: dict[str, Any] = {
        "ddim": DDIMScheduler,
        "euler": EulerDiscreteScheduler,
        "dpmsolver++": DPMSolverMultistepScheduler,
    }
    studio = Studio(save_pipeline(tmp_path / "base", prediction_type=prediction_type))
    with without_progress_bars():
        pipeline: Any = StableDiffusionPipeline.from_pretrained(studio.folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = kinds[scheduler].from_config(pipeline.scheduler.config)
    sampling = replace(SAMPLING, num_images=1, scheduler=scheduler)
    expected = pipeline(
        "an apple on a table",
        latents=torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(sampling.seed))[None],
        num_inference_steps=sampling.inference_steps,
        guidance_scale=sampling.guidance_scale,
        output_type="np",
    ).images[0]
    (ours,) = generate(studio, ["an apple on a table"], sampling)
    assert np.abs(pixels(ours) - np.round(expected * 255)).max() <= 1
