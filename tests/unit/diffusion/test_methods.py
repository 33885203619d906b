"""What one method alone does: where a hypernetwork stands, what textual inversion leaves alone, what DoRA learns."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import QUICK, Studio, base_state, loaded, silent, task, train
from safetensors.torch import load
from torch import Tensor, nn

from packshot.diffusion.methods.hypernetwork import Rewriting
from packshot.diffusion.weights import read_weights, write_weights
from packshot.domain.errors import IncompatibleFineTune
from packshot.domain.generation import SamplingSettings
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import Method

# Per family: the projections that read the prompt.
READERS = {
    "stable-diffusion": "attn2.to_k attn2.to_v",
    "stable-diffusion-xl": "attn2.to_k attn2.to_v",
    "stable-diffusion-3": "attn.add_k_proj attn.add_v_proj",
    "flux": "attn.add_k_proj attn.add_v_proj",
}


def weights_of(studio: Studio, workdir: Path, config: TrainingConfig, cachedir: Path) -> dict[str, Tensor]:
    return load(train(studio, task(studio, workdir, config=config, cachedir=cachedir)).files["weights.safetensors"])


def test_a_rewriting_is_the_projection_of_the_rewritten_prompt() -> None:
    torch.manual_seed(0)
    rewriting = Rewriting(nn.Linear(4, 3), 5)
    told = torch.randn(2, 7, 4)
    with torch.no_grad():
        assert torch.equal(rewriting(told), rewriting.projection(told))
        nn.init.normal_(rewriting.up.weight)
        hidden = told @ rewriting.down.weight.T + rewriting.down.bias
        expected = rewriting.projection(told + (hidden * hidden.sigmoid()) @ rewriting.up.weight.T)
        torch.testing.assert_close(rewriting(told), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hypernetwork_stands_before_every_key_and_value_that_reads_the_prompt(
    family: str, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    studio = family_studios[family]
    tensors = weights_of(studio, tmp_path, quick(family, method=Method.HYPERNETWORK, steps=1, rank=3), cachedir)
    layers = {name.partition(".hypernetwork.")[0] for name in tensors if not name.startswith("token.")}
    with studio.bases.borrow(studio.base) as base:
        expected = {
            f"{base.prefix}.{name}"
            for name, _ in base.denoiser.named_modules()
            if name.endswith(tuple(READERS[family].split()))
        }
    assert layers == expected
    assert layers
    widths = {len(each) for name, each in tensors.items() if name.endswith("down.weight")}
    assert widths == {3}


@pytest.mark.parametrize("how", ["a layer too few", "a layer too many", "another shape"])
def test_a_hypernetwork_of_another_base_is_refused(how: str, studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    of = task(studio, tmp_path, config=replace(QUICK, steps=1, method=Method.HYPERNETWORK), cachedir=cachedir)
    header, tensors = read_weights(train(studio, of).files["weights.safetensors"])
    name = next(name for name in tensors if name.endswith("down.weight"))
    if how == "a layer too few":
        del tensors[name]
    elif how == "a layer too many":
        tensors["unet.nowhere.to_k.hypernetwork.down.weight"] = tensors[name].clone()
    else:
        tensors[name] = tensors[name][:, :-1]
    before = base_state(studio)
    tuned = loaded(studio, of, write_weights(header, tensors))
    with pytest.raises(IncompatibleFineTune, match="does not fit the base"):
        studio.generator.generate(studio.base, tuned, ["a"], SamplingSettings(inference_steps=1), report=silent)
    assert base_state(studio) == before


@pytest.mark.parametrize("num_vectors", [1, 8])
def test_textual_inversion_learns_the_tokens_rows_alone(
    num_vectors: int, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    config = replace(QUICK, method=Method.TEXTUAL_INVERSION, num_vectors=num_vectors)
    tensors = weights_of(studio, tmp_path, config, cachedir)
    assert list(tensors) == ["token.text_encoder"]
    with studio.bases.borrow(studio.base) as base:
        start = base.initial_rows("apple", config.seed, num_vectors)["text_encoder"]
    moved = (tensors["token.text_encoder"] - start).abs().amax(1)
    assert len(moved) == num_vectors
    assert (moved > 1e-3).all()


def test_a_textual_inversion_whose_captions_were_all_dropped_learns_nothing(
    studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    """Then no prompt of the step names the token, and there is no gradient at all."""
    config = replace(QUICK, method=Method.TEXTUAL_INVERSION, steps=2, batch_size=1, caption_dropout=0.95, seed=1)
    tensors = weights_of(studio, tmp_path, config, cachedir)
    with studio.bases.borrow(studio.base) as base:
        start = base.initial_rows("apple", config.seed, 1)["text_encoder"]
    assert torch.equal(tensors["token.text_encoder"], start)


@pytest.mark.parametrize("rows", [torch.zeros(1, 15), torch.zeros(0, 16), torch.zeros(16)])
def test_rows_of_another_width_are_refused(rows: Tensor, studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    of = task(studio, tmp_path, config=replace(QUICK, steps=1, method=Method.TEXTUAL_INVERSION), cachedir=cachedir)
    header, _ = read_weights(train(studio, of).files["weights.safetensors"])
    tuned = loaded(studio, of, write_weights(header, {"token.text_encoder": rows}))
    with pytest.raises(IncompatibleFineTune, match="16 wide"):
        studio.generator.generate(studio.base, tuned, ["a"], SamplingSettings(inference_steps=1), report=silent)


def test_a_textual_inversion_with_more_than_rows_is_refused(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    of = task(studio, tmp_path, config=replace(QUICK, steps=1, method=Method.TEXTUAL_INVERSION), cachedir=cachedir)
    header, tensors = read_weights(train(studio, of).files["weights.safetensors"])
    tuned = loaded(studio, of, write_weights(header, {**tensors, "unet.conv_in.bias": torch.zeros(8)}))
    with pytest.raises(IncompatibleFineTune, match=r"holds no 'unet\.conv_in\.bias'"):
        studio.generator.generate(studio.base, tuned, ["a"], SamplingSettings(inference_steps=1), report=silent)


@pytest.mark.parametrize("method", [Method.LORA, Method.PIVOTAL])
def test_dora_learns_a_length_for_every_row_of_a_weight(
    method: Method, studio: Studio, cachedir: Path, tmp_path: Path
) -> None:
    tensors = weights_of(studio, tmp_path, replace(QUICK, method=method, use_dora=True), cachedir)
    magnitudes = {name: each for name, each in tensors.items() if name.endswith(".lora_magnitude_vector")}
    with studio.bases.borrow(studio.base) as base:
        for name, magnitude in magnitudes.items():
            layer = name.removeprefix("unet.").removesuffix(".lora_magnitude_vector")
            lengths = base.denoiser.get_parameter(f"{layer}.weight").flatten(1).norm(dim=1)
            assert magnitude.numel() == lengths.numel()
            assert 0 < (magnitude.flatten() - lengths).abs().max() < 0.1
    assert len(magnitudes) == sum(name.endswith(".lora_A.weight") for name in tensors)


@contextmanager
def dead_row(studio: Studio, layer: str) -> Iterator[None]:
    """The first row of a weight is zeros while the context lasts."""
    with studio.bases.borrow(studio.base) as base:
        weight = base.denoiser.get_parameter(f"{layer}.weight")
    row = weight.data[0].clone()
    weight.data[0] = 0
    try:
        yield
    finally:
        weight.data[0] = row


DEAD = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def test_dora_leaves_a_layer_with_a_dead_output_alone(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    with dead_row(studio, DEAD):
        tensors = weights_of(studio, tmp_path, replace(QUICK, use_dora=True), cachedir)
    assert not [name for name in tensors if DEAD in name]
    assert [name for name in tensors if DEAD.replace("to_q", "to_k") in name]
    assert all(each.isfinite().all() for each in tensors.values())


def test_a_dora_from_elsewhere_leaves_a_dead_output_dead(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    of = task(studio, tmp_path, config=replace(QUICK, steps=1, use_dora=True), cachedir=cachedir)
    header, tensors = read_weights(train(studio, of).files["weights.safetensors"])
    up = next(name for name in tensors if name.endswith(f"{DEAD}.lora_B.weight"))
    fine_tune = loaded(studio, of, write_weights(header, {**tensors, up: torch.zeros_like(tensors[up])}))
    sampling = SamplingSettings(seed=0, num_images=1, inference_steps=1)
    with dead_row(studio, DEAD):
        pictures = studio.generator.generate(studio.base, fine_tune, ["a"], sampling, report=silent)
    assert len(pictures) == 1  # one that is no number would be refused


def test_a_dora_with_magnitudes_of_another_shape_is_refused(studio: Studio, cachedir: Path, tmp_path: Path) -> None:
    of = task(studio, tmp_path, config=replace(QUICK, steps=1, use_dora=True), cachedir=cachedir)
    header, tensors = read_weights(train(studio, of).files["weights.safetensors"])
    name = next(name for name in tensors if name.endswith(".lora_magnitude_vector"))
    tuned = loaded(studio, of, write_weights(header, {**tensors, name: torch.ones(3)}))
    with pytest.raises(IncompatibleFineTune, match="magnitudes of"):
        studio.generator.generate(studio.base, tuned, ["a"], SamplingSettings(inference_steps=1), report=silent)


@pytest.mark.parametrize("family", ["stable-diffusion-3", "flux"])
def test_the_last_projection_of_a_transformer_gets_no_adapter(
    family: str, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    tensors = weights_of(family_studios[family], tmp_path, quick(family, method=Method.LORA, steps=1), cachedir)
    adapted = {name.partition(".lora_")[0] for name in tensors}
    assert "transformer.proj_out" not in adapted
    assert any(name.endswith("ff_context.net.0.proj") for name in adapted)
    assert any(name.endswith("add_q_proj") for name in adapted)
    assert any(name.endswith("single_transformer_blocks.0.proj_out") for name in adapted) is (family == "flux")
