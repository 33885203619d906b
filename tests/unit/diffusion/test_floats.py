"""A base whose layers are kept in half floats: what is drawn with it, what is trained on it, and what it takes."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import QUICK, Studio, base_state, loaded, silent, task, train
from PIL import Image
from safetensors.torch import load

from packshot.diffusion.weights import read_weights
from packshot.domain.generation import SamplingSettings
from packshot.domain.training_choices import Method, MixedPrecision
from packshot.ports import LoadedFineTune

SAMPLING = SamplingSettings(seed=3, num_images=2, inference_steps=4, guidance_scale=3.0)
HALVES = [MixedPrecision.BF16, MixedPrecision.FP16]

pytestmark = pytest.mark.filterwarnings(
    "ignore:Mismatch dtype between input and weight"
)  # FLUX's norms keep their weights in 32 bits


def pictures(studio: Studio, fine_tune: LoadedFineTune | None = None, prompt: str = "an apple") -> np.ndarray:
    pngs = studio.generator.generate(studio.base, fine_tune, [prompt], SAMPLING, report=silent)
    return np.stack([np.asarray(Image.open(io.BytesIO(png)), dtype=np.float32) for png in pngs])


def differ_by_rounding(one: np.ndarray, other: np.ndarray) -> bool:
    """A few of 256 grey levels, and not none."""
    return 0 < np.abs(one - other).mean() < 4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("half", HALVES)
def test_every_family_draws_nearly_the_same_pictures(
    half: MixedPrecision, family: str, family_studios: dict[str, Studio]
) -> None:
    plain = family_studios[family]
    short = Studio(plain.folder, precision=half)
    assert differ_by_rounding(pictures(plain), pictures(short))
    memory, half_memory = plain.engine.memory, short.engine.memory
    assert memory and half_memory
    assert half_memory.denoiser < 0.6 * memory.denoiser
    assert half_memory.max_adapters == pytest.approx(memory.max_adapters / 2, rel=0.01)


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("half", HALVES)
def test_fine_tunes_of_every_method_stand_beside_it(
    half: MixedPrecision, method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    rates = {"learning_rate": 1e-2 if method is Method.FULL else 0.05, "token_learning_rate": 0.5}
    config = replace(QUICK, method=method, steps=20, train_text_encoder=method.can_train_text_encoder, **rates)
    of = task(studio, tmp_path, config=config, cachedir=cachedir)
    fine_tune = loaded(studio, of, train(studio, of).files["weights.safetensors"])
    short = Studio(studio.folder, precision=half)
    prompt = f"a {of.trained_phrase}"
    bare, tuned = (pictures(studio, each, prompt) for each in (None, fine_tune))
    difference = np.abs(pictures(short, fine_tune, prompt) - tuned).mean()
    assert 0 < difference < 0.2 * np.abs(tuned - bare).mean()


@pytest.mark.parametrize("method", [each for each in Method if each is not Method.FULL])
def test_a_training_gives_what_it_gives_on_weights_that_are_shortened_at_every_pass(
    method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    config = replace(QUICK, method=method, mixed_precision=MixedPrecision.BF16)

    def trained(folder: str) -> dict[str, torch.Tensor]:
        return load(
            train(studio, task(studio, tmp_path / folder, config=config, cachedir=cachedir)).files[
                "weights.safetensors"
            ]
        )

    kept_short = trained("short")
    with studio.bases.borrow(studio.base):  # in 32 bits, as the training within it finds it
        shortened_each_time = trained("long")
    for name, tensor in kept_short.items():
        other = shortened_each_time[name]
        # peft begins an adapter with the floats of its layer, so that low-rank adapters begin rounded.
        assert (tensor - other).norm() <= (0.05 if method.has_adapters else 0.0) * other.norm(), name


def test_auto_trains_with_floats_that_the_file_names(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    def trained(precision: MixedPrecision) -> bytes:
        config = replace(QUICK, mixed_precision=precision)
        of = task(studio, tmp_path / precision, config=config, cachedir=cachedir)
        return train(studio, of).files["weights.safetensors"]

    chosen = trained(MixedPrecision.AUTO)
    named = MixedPrecision(json.loads(read_weights(chosen)[0].config)["mixed_precision"])
    assert named in (MixedPrecision.NO, MixedPrecision.BF16)
    assert chosen == trained(named)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_in_half_floats_leaves_the_base_in_32_bits_to_others(
    family: str, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    studio = family_studios[family]
    before, pictures_before = base_state(studio), pictures(studio)
    config = quick(family, steps=1, mixed_precision=MixedPrecision.BF16)
    metrics = train(studio, task(studio, tmp_path, config=config, cachedir=cachedir)).metrics
    assert len(metrics) == 1
    assert base_state(studio) == before
    assert np.array_equal(pictures(studio), pictures_before)


def test_full_fine_tuning_learns_in_32_bits_whatever_passes_compute_with(
    studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    """A weight that learned is told apart by less than 16 bits can hold."""
    config = replace(QUICK, method=Method.FULL, steps=1, learning_rate=1e-5, mixed_precision=MixedPrecision.BF16)
    files = train(studio, task(studio, tmp_path, config=config, cachedir=cachedir)).files
    weights = load(files["weights.safetensors"])["unet.conv_in.weight"]
    assert not torch.equal(weights, weights.bfloat16().float())
    with studio.bases.borrow(studio.base) as base:
        moved = (weights - base.denoiser.get_parameter("conv_in.weight")).abs()
    assert 0 < moved.max() < 2e-5
