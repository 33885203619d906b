"""A full fine-tune made small: as near as its rank allows, and a difference that adds up to the bit."""

from pathlib import Path

import pytest
import torch
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import PHRASE, Studio, base_state, held, loaded, silent, task, train

from packshot.diffusion.compressor import DiffusersCompressor
from packshot.diffusion.methods import applied
from packshot.diffusion.weights import read_weights
from packshot.domain.errors import InvalidInput
from packshot.domain.generation import SamplingSettings
from packshot.domain.training_choices import Method, MixedPrecision

SAMPLING = SamplingSettings(seed=3, num_images=1, inference_steps=2, guidance_scale=3.0)
NO = MixedPrecision.NO


@pytest.mark.parametrize("family", FAMILIES)
def test_a_difference_adds_up_to_the_bit_and_an_adapter_nears_it(
    family: str, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    studio = family_studios[family]
    config = quick(family, steps=2, method=Method.FULL, train_text_encoder=True, learning_rate=1e-2)
    of = task(studio, tmp_path / "run", config=config, cachedir=cachedir)
    tuned = loaded(studio, of, train(studio, of).files["weights.safetensors"])
    compressor = DiffusersCompressor(studio.bases)
    before = base_state(studio)
    _, whole = read_weights(tuned.read())
    for precision, floats in ((MixedPrecision.BF16, torch.bfloat16), (MixedPrecision.FP16, torch.float16)):
        small = compressor.compress(studio.base, tuned, rank=1, delta=precision)
        assert small.method is Method.FULL
        assert len(small.weights) < 0.75 * len(tuned.read())
        assert 0 < small.relative_error < 2**-8
        header, tensors = read_weights(small.weights)
        with studio.bases.borrow(studio.base) as base:
            own = {name: each.clone() for name, each in base.denoiser.named_parameters()}
            with applied(base, header, tensors):
                for name, each in base.denoiser.named_parameters():
                    change = (whole[f"{base.prefix}.{name}"] - own[name]).to(floats)
                    assert torch.equal(each, own[name] + change.float())
        served = held(tuned.record, small.weights)
        assert studio.generator.generate(studio.base, served, [f"a {PHRASE}"], SAMPLING, report=silent)
        with pytest.raises(InvalidInput, match="is small already"):
            compressor.compress(studio.base, served, rank=1, delta=precision)
    errors = [compressor.compress(studio.base, tuned, rank=rank, delta=NO).relative_error for rank in (1, 4, 64)]
    assert 1 > errors[0] > errors[1] > errors[2]
    low = compressor.compress(studio.base, tuned, rank=4, delta=NO)
    assert low.method is Method.LORA
    assert base_state(studio) == before
