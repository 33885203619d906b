"""What a fine-tune's file does in a base: as trained, or refused with a typed error when it is not what was trained."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_pipelines import PHRASE, QUICK, TOKEN, Studio, base_state, held, loaded, silent, task, train
from peft import set_peft_model_state_dict
from safetensors.torch import load
from torch import Tensor

from packshot.diffusion.methods import METHODS
from packshot.diffusion.weights import read_weights, write_weights
from packshot.domain.errors import CorruptArtifact, IncompatibleFineTune, InvalidInput
from packshot.domain.generation import SamplingSettings
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import Method, Targets
from packshot.ports import LoadedFineTune

QUICKEST = SamplingSettings(inference_steps=1, guidance_scale=1.0)
CONFIG = replace(QUICK, learning_rate=1e-2)


@pytest.fixture(scope="module")
def fine_tune(studio: Studio, cachedir: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedFineTune:
    of = task(studio, tmp_path_factory.mktemp("run"), config=CONFIG, method=Method.PIVOTAL, cachedir=cachedir)
    return loaded(studio, of, train(studio, of).files["weights.safetensors"])


def generate(studio: Studio, fine_tune: LoadedFineTune) -> list[bytes]:
    return studio.generator.generate(studio.base, fine_tune, ["an apple"], QUICKEST, report=silent)


def predict(studio: Studio, rows: Mapping[str, Tensor], weights: bytes, *, merged: bool) -> Tensor:
    """The denoiser's prediction with the fine-tune put in for generation, or attached as in training."""
    header, tensors = read_weights(weights)
    noisy = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    with studio.bases.borrow(studio.base) as base, base.with_token(header.token, rows) as in_place, torch.no_grad():
        if merged:
            take_out = METHODS[header.method].apply(base, header, tensors)
        else:
            config = TrainingConfig.from_dict(json.loads(header.config))
            attachment = METHODS[header.method].attach(base, in_place, config)
            take_out = attachment.detach
            for name, parameter in attachment.parameters.items():
                parameter.copy_(tensors[name])
        try:
            conditioning = base.encode_prompts([f"a {PHRASE}", "an apple"])
            return base.predict(noisy, torch.tensor([10, 900]), conditioning)
        finally:
            take_out()


@pytest.mark.parametrize(
    "config",
    [
        *(replace(CONFIG, method=each, train_text_encoder=each.can_train_text_encoder) for each in Method),
        replace(CONFIG, use_dora=True, train_text_encoder=True),
        replace(CONFIG, method=Method.TEXTUAL_INVERSION, token_learning_rate=0.1, num_vectors=3),
    ],
    ids=lambda config: f"{config.method}{'-dora' * config.use_dora}-{config.num_vectors}",
)
def test_a_fine_tune_predicts_in_generation_what_it_predicted_in_training(
    config: TrainingConfig, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    weights = train(studio, task(studio, tmp_path, config=config, cachedir=cachedir)).files["weights.safetensors"]
    rows = {"text_encoder": load(weights)["token.text_encoder"]}
    trained, merged = (predict(studio, rows, weights, merged=each) for each in (False, True))
    with studio.bases.borrow(studio.base) as base, torch.no_grad():
        start = base.initial_rows("apple", config.seed, config.num_vectors)
        noisy = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
        with base.with_token(TOKEN, start):
            told = base.encode_prompts([f"a {PHRASE}", "an apple"])
        bare = base.predict(noisy, torch.tensor([10, 900]), told)
    assert (trained - merged).abs().max() <= 1e-5
    assert (bare - merged).abs().max() > 1e-3


@pytest.mark.parametrize("targets", list(Targets))
def test_peft_reads_the_adapters(targets: Targets, studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    config = replace(CONFIG, method=Method.LORA, targets=targets, steps=1)
    tensors = load(train(studio, task(studio, tmp_path, config=config, cachedir=cachedir)).files["weights.safetensors"])
    of_unet = {name.removeprefix("unet."): each for name, each in tensors.items() if name.startswith("unet.")}
    layers = sorted({name.rpartition(".lora_")[0] for name in of_unet})
    unet = UNet2DConditionModel.from_pretrained(studio.folder / "unet")
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=2, target_modules=layers), unet, adapter_name="other")
    result = set_peft_model_state_dict(unet, of_unet, adapter_name="other")
    assert not result.unexpected_keys
    found = get_peft_model_state_dict(unet, adapter_name="other")
    assert set(found) == set(of_unet)
    assert all(torch.equal(found[name], of_unet[name]) for name in found)
    assert any("conv1" in name for name in found) is (targets is Targets.ALL)


def test_a_flipped_bit_in_the_header_is_a_typed_error_or_harmless(fine_tune: LoadedFineTune, studio: Studio) -> None:
    """No foreign exception, and the base stays whole. Flips in the tensors' numbers are for the blob's digest to find."""
    before = base_state(studio)
    header_end = 8 + int.from_bytes(fine_tune.read()[:8], "little")
    refused = 0
    positions = range(0, header_end, 29)
    for number, at in enumerate(positions):
        damaged = bytearray(fine_tune.read())
        damaged[at] ^= 1 << number % 7
        try:
            generate(studio, held(fine_tune.record, bytes(damaged)))
        except (CorruptArtifact, IncompatibleFineTune):
            refused += 1
    assert refused > 0.75 * len(positions)
    assert base_state(studio) == before


def damage(data: bytes, how: str) -> bytes:
    header, tensors = read_weights(data)
    down = next(name for name in tensors if name.endswith(".lora_A.weight"))
    up = down.replace(".lora_A.", ".lora_B.")
    if how == "half an adapter, up":
        del tensors[down]
    elif how == "half an adapter, down":
        del tensors[up]
    elif how == "a stray part":
        tensors["vae.conv.lora_A.weight"] = torch.zeros(2, 2)
    elif how == "a stray layer":
        tensors |= {f"unet.nowhere.lora_{half}.weight": torch.zeros(2, 2) for half in "AB"}
    elif how == "a stray tensor":
        tensors["unet.conv_in.weight"] = torch.zeros(2, 2)
    elif how == "another shape":
        tensors[down] = tensors[down][:, :-1]
    elif how == "another rank":
        tensors[down] = tensors[down][:1]
    elif how == "no row":
        del tensors["token.text_encoder"]
    return write_weights(header, tensors)


@pytest.mark.parametrize(
    "how",
    [
        "half an adapter, up",
        "half an adapter, down",
        "a stray part",
        "a stray layer",
        "a stray tensor",
        "another shape",
        "another rank",
        "no row",
    ],
)
def test_weights_that_do_not_fit_are_refused(how: str, fine_tune: LoadedFineTune, studio: Studio) -> None:
    before = base_state(studio)
    with pytest.raises(IncompatibleFineTune):
        generate(studio, held(fine_tune.record, damage(fine_tune.read(), how)))
    assert base_state(studio) == before


@pytest.mark.parametrize("change", [{"rank": 0}, {"alpha": 0}, {"rank": "x"}, {"version": 2}, {"format": "other"}])
def test_a_header_that_makes_no_sense_is_refused(
    change: dict[str, object], fine_tune: LoadedFineTune, studio: Studio
) -> None:
    header, tensors = read_weights(fine_tune.read())
    data = write_weights(replace(header, **change), tensors)  # type: ignore[arg-type]
    with pytest.raises(CorruptArtifact):
        generate(studio, held(fine_tune.record, data))


@pytest.mark.parametrize("change", [{"method": Method.LORA}, {"token": "<other>"}, {"trained_phrase": "<other> pear"}])
def test_the_weights_of_another_record_are_refused(
    change: dict[str, object], fine_tune: LoadedFineTune, studio: Studio
) -> None:
    record = replace(fine_tune.record, **change)  # type: ignore[arg-type]
    with pytest.raises(CorruptArtifact, match="the record says"):
        generate(studio, replace(fine_tune, record=record))


@pytest.mark.parametrize("steps", [1, 500, 998, 999, 1000])
def test_steps_that_the_schedule_cannot_be_divided_into_are_refused(steps: int, studio: Studio) -> None:
    with studio.bases.borrow(studio.base) as base:
        if steps > 998:
            with pytest.raises(InvalidInput, match="at most 500"):
                base.new_sampler(steps, (4, 8, 8))
            return
        sampler = base.new_sampler(steps, (4, 8, 8))
        latents = torch.ones(1, 4, 8, 8)
        for timestep in sampler.timesteps:
            latents = sampler.step(torch.zeros_like(latents), timestep, latents, return_dict=False)[0]
    assert latents.isfinite().all()
