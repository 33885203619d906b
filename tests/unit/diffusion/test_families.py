"""Every family beside diffusers' own pipeline: prompts, sampling, latents; and what a base cannot take is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fixtures_families import (
    EDGE,
    FAMILIES,
    FLOWS,
    GUIDANCE,
    STEPS,
    ours,
    plain_pictures,
    plain_pipeline,
    quick,
    save_family,
)
from fixtures_pipelines import (
    PHRASE,
    RESOLUTION,
    TOKEN,
    Studio,
    base_state,
    loaded,
    png,
    silent,
    task,
    train,
)
from torch import Tensor

from packshot.diffusion.families import FAMILIES as TABLE
from packshot.diffusion.families.flux import pack, unpack
from packshot.diffusion.pictures import frame_of_png, pixels_from_png, png_from_pixels
from packshot.diffusion.protocols import Family
from packshot.domain.errors import InvalidConfiguration, InvalidInput
from packshot.domain.generation import SamplingSettings
from packshot.domain.training_choices import Method

SIZE = (RESOLUTION, RESOLUTION)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def of_family(family: str, family_studios: dict[str, Studio]) -> Studio:
    return family_studios[family]


@pytest.fixture
def base(of_family: Studio) -> Iterator[Family]:
    with of_family.bases.borrow(of_family.base) as borrowed:
        yield borrowed


@pytest.mark.parametrize("prompts", [["an apple on a table"], ["a pear", "an apple " * 20, ""]])
def test_sampling_equals_the_plain_pipeline(prompts: list[str], family: str, base: Family, of_family: Studio) -> None:
    if family == "stable-diffusion-xl" and "" in prompts:
        prompts = [prompt for prompt in prompts if prompt]  # the pipeline zeroes only what is negative
    pipeline = plain_pipeline(of_family.folder, family)
    latents = torch.randn(len(prompts), 4, EDGE, EDGE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = ours(base, latents, prompts), plain_pictures(pipeline, family, latents, prompts)
    assert expected.std() > 0.05
    assert (found.clamp(-1, 1) - expected).abs().max() <= 1e-4


def test_the_generator_runs_the_same_sampling(base: Family, of_family: Studio) -> None:
    latents = torch.randn((4, EDGE, EDGE), generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        (expected,) = ours(base, latents[None], ["an apple"])
    sampling = SamplingSettings(
        seed=7, inference_steps=STEPS, guidance_scale=GUIDANCE, width=RESOLUTION, height=RESOLUTION
    )
    (found,) = of_family.generator.generate(of_family.base, None, ["an apple"], sampling, report=silent)
    pixels = [pixels_from_png(each, SIZE) for each in (found, png_from_pixels(expected))]
    assert (pixels[0] - pixels[1]).abs().max() <= 1.01 / 127.5


def test_latents_go_through_the_autoencoder_as_the_pipeline_scales_them(
    family: str, base: Family, of_family: Studio
) -> None:
    vae = plain_pipeline(of_family.folder, family).vae
    pixels = pixels_from_png(png(0), SIZE)
    with torch.no_grad():
        posterior = vae.encode(pixels[None]).latent_dist
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    found = base.encode_pixels(pixels)
    torch.testing.assert_close(found.mean, (posterior.mean[0] - shift) * vae.config.scaling_factor)
    torch.testing.assert_close(found.std, posterior.std[0] * vae.config.scaling_factor)
    with torch.no_grad():
        torch.testing.assert_close(base.decode_latents(found.mean), vae.decode(posterior.mean).sample[0])


@pytest.mark.parametrize("num_vectors", [1, 3])
def test_a_token_means_its_rows_in_every_encoder_and_nothing_afterwards(
    num_vectors: int, base: Family, of_family: Studio
) -> None:
    before = base_state(of_family)
    rows = base.initial_rows("apple", 0, num_vectors)
    assert {name: len(each) for name, each in rows.items()} == dict.fromkeys(base.text_encoders, num_vectors)
    prompts = [f"a {TOKEN}", "an apple"]
    bare = base.encode_prompts(prompts)
    for name in rows:
        with base.with_token(TOKEN, rows):
            plain = base.encode_prompts(prompts)
        with base.with_token(TOKEN, rows | {name: rows[name] + 1}):
            moved = base.encode_prompts(prompts)
        assert any(not torch.equal(moved[key][0], plain[key][0]) for key in plain), name
        assert all(torch.equal(moved[key][1], bare[key][1]) for key in plain), name
    assert base_state(of_family) == before


def test_the_first_rows_do_not_depend_on_how_many_follow(base: Family) -> None:
    one, three = (base.initial_rows("apple", 5, count) for count in (1, 3))
    for name, rows in one.items():
        assert torch.equal(three[name][:1], rows)
        assert len(torch.unique(three[name], dim=0)) == 3


def test_only_the_clip_encoders_learn(family: str, base: Family) -> None:
    expected = {
        "stable-diffusion": ["text_encoder"],
        "stable-diffusion-xl": ["text_encoder", "text_encoder_2"],
        "stable-diffusion-3": ["text_encoder", "text_encoder_2"],
        "flux": ["text_encoder"],
    }
    assert list(base.trainable_text_encoders) == expected[family]


def test_a_frozen_base_is_described_without_loading_it(family: str, of_family: Studio) -> None:
    assert of_family.base.family == family
    assert of_family.base.resolution == (256 if family == "flux" else RESOLUTION)


def test_noise_target_and_prediction_agree_with_the_plain_scheduler(family: str, base: Family) -> None:
    generator = torch.Generator().manual_seed(0)
    timesteps = base.draw_timesteps(500, generator)
    latents, noise = (torch.randn(500, 4, 2, 2, generator=generator) for _ in range(2))
    noisy, target = base.add_noise(latents, noise, timesteps), base.target(latents, noise, timesteps)
    if family in FLOWS:
        share = (timesteps / 1000)[:, None, None, None]
        torch.testing.assert_close(noisy, latents + share * target)
        assert 0 < timesteps.min() < 200
        assert 900 < timesteps.max() <= 1000
        assert timesteps.unique().numel() > 200
        # SD3's schedule is shifted to noise threefold: its median is there where an unshifted one has 3 / 4.
        assert timesteps.median().item() == pytest.approx(750 if family == "stable-diffusion-3" else 500, abs=60)
    else:
        assert torch.equal(target, noise)
        assert timesteps.dtype == torch.int64


def test_packing_is_undone_by_unpacking() -> None:
    latents = torch.arange(2 * 4 * 6 * 8.0).reshape(2, 4, 6, 8)
    assert pack(latents).shape == (2, 12, 16)
    assert torch.equal(unpack(pack(latents), 6, 8), latents)
    assert pack(latents)[0, 0].tolist() == latents[0, :, :2, :2].flatten().tolist()


def test_sdxl_is_told_how_the_picture_was_cut(family_studios: dict[str, Studio]) -> None:
    of_family = family_studios["stable-diffusion-xl"]
    assert frame_of_png(png(0, size=(20, 18)), SIZE) == (18, 20, 0, 0, RESOLUTION, RESOLUTION)
    assert frame_of_png(png(0, size=(40, 90)), SIZE) == (90, 40, 10, 0, RESOLUTION, RESOLUTION)
    noisy = torch.randn(1, 4, EDGE, EDGE, generator=torch.Generator().manual_seed(0))
    with of_family.bases.borrow(of_family.base) as base, torch.no_grad():
        told = base.encode_prompts(["an apple"])
        predictions = [
            base.predict(noisy, torch.tensor([500]), told | base.picture_conditioning(torch.tensor([frame]), 1.0))
            for frame in ([16.0, 16, 0, 0, 16, 16], [90.0, 40, 10, 0, 16, 16])
        ]
    assert not torch.allclose(*predictions)


def test_flux_reads_the_guidance_scale_itself(family_studios: dict[str, Studio]) -> None:
    of_family = family_studios["flux"]
    size = {"width": RESOLUTION, "height": RESOLUTION, "inference_steps": 2}
    pictures = {
        scale: of_family.generator.generate(
            of_family.base, None, ["a pear"], SamplingSettings(guidance_scale=scale, **size), report=silent
        )[0]
        for scale in (1.0, 30.0)
    }
    assert pictures[1.0] != pictures[30.0]


def test_flux_refuses_a_negative_prompt(family_studios: dict[str, Studio]) -> None:
    of_family = family_studios["flux"]
    with pytest.raises(InvalidInput, match="takes no negative prompt"):
        of_family.generator.generate(
            of_family.base, None, ["a pear"], SamplingSettings(negative_prompt="blurry"), report=silent
        )


@pytest.mark.parametrize("family", FLOWS)
def test_a_size_that_the_patches_do_not_fill_is_refused(family: str, family_studios: dict[str, Studio]) -> None:
    of_family = family_studios[family]
    with of_family.bases.borrow(of_family.base) as base:
        assert base.latent_shape(16, 24) == (4, 12, 8)
        with pytest.raises(InvalidInput, match="multiples of 4"):
            base.latent_shape(18, 16)


@pytest.mark.parametrize("family", ["stable-diffusion-xl", "stable-diffusion-3", "flux"])
def test_the_pooled_embedding_is_taken_at_the_end_of_the_text(
    family: str, family_studios: dict[str, Studio], tmp_path: Path
) -> None:
    """Published configurations say end-of-text 2, with which CLIP would pool at an added token."""
    folder = Path(shutil.copytree(family_studios[family].folder, tmp_path / "base"))
    for config in folder.glob("text_encoder*/config.json"):
        values = json.loads(config.read_text())
        if "eos_token_id" in values and values["model_type"] == "clip_text_model":
            config.write_text(json.dumps(values | {"eos_token_id": 2}))
    pooled: list[Tensor] = []
    for of_family in (family_studios[family], Studio(folder)):
        with of_family.bases.borrow(of_family.base) as base, base.with_token(TOKEN, base.initial_rows("apple", 0, 1)):
            pooled.append(base.encode_prompts([f"a {TOKEN} on grass"])["pooled"])
    assert torch.equal(*pooled)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_component_is_named(family: str, tmp_path: Path) -> None:
    from packshot.diffusion.bases import DiffusersBaseModels
    from packshot.digests import FileDigests
    from packshot.domain.errors import BaseModelRefused

    folder = save_family(family, tmp_path / "base")
    for component in TABLE[family].components:
        shutil.move(folder / component, tmp_path / "aside")
        with pytest.raises(BaseModelRefused, match=f"no {component}"):
            DiffusersBaseModels(embedded=lambda: folder, digests=FileDigests()).describe("embedded")
        shutil.move(tmp_path / "aside", folder / component)


def test_every_family_of_the_table_is_under_test() -> None:
    assert tuple(TABLE) == FAMILIES


@pytest.mark.parametrize("method", list(Method))
def test_a_training_leaves_the_base_as_it_was_and_changes_the_pictures(
    method: Method, family: str, of_family: Studio, cachedir: Path, tmp_path: Path
) -> None:
    before = base_state(of_family)
    of = task(of_family, tmp_path, config=quick(family, method=method, learning_rate=1e-2), cachedir=cachedir)
    tuned = loaded(of_family, of, train(of_family, of).files["weights.safetensors"])
    sampling = SamplingSettings(inference_steps=2, width=RESOLUTION, height=RESOLUTION)
    pictures = [
        of_family.generator.generate(of_family.base, each, [f"a {PHRASE}"], sampling, report=silent)
        for each in (tuned, None)
    ]
    assert pictures[0] != pictures[1]
    assert base_state(of_family) == before


@pytest.mark.parametrize("family", FLOWS)
def test_what_a_family_does_not_support_is_refused_before_anything_is_loaded(family: str, tmp_path: Path) -> None:
    studio = Studio(save_family(family, tmp_path / "base"))
    shutil.rmtree(studio.folder)
    with pytest.raises(InvalidConfiguration, match="learns a flow"):
        train(studio, task(studio, tmp_path / "run", config=quick(family, snr_gamma=5.0)))


@pytest.mark.parametrize("family", FLOWS)
def test_a_resolution_that_the_patches_do_not_fill_is_refused(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family_studios: dict[str, Studio]
) -> None:
    of_family = family_studios[family]
    with of_family.bases.borrow(of_family.base) as base:
        monkeypatch.setattr(base, "_patch", 8)
        with pytest.raises(InvalidInput, match="multiples of 16"):
            train(of_family, task(of_family, tmp_path, config=quick(family, resolution=24, prior_weight=0.0)))
