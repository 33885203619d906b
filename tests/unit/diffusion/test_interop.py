"""What is exported gives the same picture in plain diffusers, and loses no weight in the kohya layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_families import EDGE, FAMILIES, PIPELINES, ours, plain_pictures, plain_pipeline, quick
from fixtures_pipelines import PHRASE, TOKEN, Studio, loaded, task, train
from safetensors import safe_open
from safetensors.torch import load, load_file
from torch import Tensor

from packshot.diffusion.exporter import DiffusersExporter
from packshot.diffusion.methods import METHODS
from packshot.diffusion.weights import read_weights, token_rows
from packshot.domain.errors import InvalidInput
from packshot.domain.models import ExportFormat
from packshot.domain.training_choices import Method, Targets
from packshot.ports import LoadedFineTune

TITLE = "produce-apple-fuji-v1"
PROMPTS = [f"a {PHRASE} on grass", "a pear"]


def fine_tune(of_family: Studio, workdir: Path, cachedir: Path, **changes: Any) -> LoadedFineTune:
    config = quick(of_family.base.family, steps=3, learning_rate=1e-2, token_learning_rate=5e-2, **changes)
    of = task(of_family, workdir, config=config, cachedir=cachedir)
    return loaded(of_family, of, train(of_family, of).files["weights.safetensors"])


def export(of_family: Studio, tuned: LoadedFineTune, form: ExportFormat, out: Path) -> list[Path]:
    return DiffusersExporter(of_family.bases).export(of_family.base, tuned, form, TITLE, out)


def our_pictures(of_family: Studio, tuned: LoadedFineTune, latents: Tensor) -> Tensor:
    header, tensors = read_weights(tuned.read())
    with of_family.bases.borrow(of_family.base) as base, torch.no_grad(), base.with_token(TOKEN, token_rows(tensors)):
        take_out = METHODS[header.method].apply(base, header, tensors)
        try:
            return ours(base, latents, PROMPTS).clamp(-1, 1)
        finally:
            take_out()


def load_token(pipeline: Any, family: str, out: Path) -> list[str]:
    """Teach the plain pipeline the token; returns the prompts as it wants them."""
    encoders = [name for name in pipeline.components if name.startswith("text_encoder")]
    for encoder in encoders:
        name = f"learned_embeds{encoder.removeprefix('text_encoder')}.safetensors"
        parts = getattr(pipeline, encoder), getattr(pipeline, encoder.replace("text_encoder", "tokenizer"))
        if family != "stable-diffusion-3":
            pipeline.load_textual_inversion(out, weight_name=name, text_encoder=parts[0], tokenizer=parts[1])
            continue
        # This pipeline has no loader for embeddings; its tokenizers take them all the same.
        ((token, rows),) = load_file(out / name).items()
        parts[1].add_tokens([token, *(f"{token}_{number}" for number in range(1, len(rows)))])
        at = parts[1].convert_tokens_to_ids(token)
        table = parts[0].get_input_embeddings().weight.detach()
        taught = torch.cat([table[:at], rows, table[at + len(rows) :]])
        parts[0].set_input_embeddings(torch.nn.Embedding.from_pretrained(taught))
    if family == "stable-diffusion-3":
        return [
            prompt.replace(TOKEN, " ".join([TOKEN, *(f"{TOKEN}_{n}" for n in range(1, len(rows)))]))
            for prompt in PROMPTS
        ]
    return PROMPTS


@pytest.fixture(params=FAMILIES)
def of_family(request: pytest.FixtureRequest, family_studios: dict[str, Studio]) -> Studio:
    return family_studios[request.param]


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(len(PROMPTS), 4, EDGE, EDGE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": Method.PIVOTAL, "train_text_encoder": True, "num_vectors": 2},
        {"method": Method.LORA, "use_dora": True, "targets": Targets.ATTENTION},
        {"method": Method.TEXTUAL_INVERSION, "num_vectors": 3},
    ],
    ids=lambda changes: str(changes["method"]),
)
def test_adapters_and_tokens_give_the_same_picture_in_plain_diffusers(
    changes: dict[str, Any], of_family: Studio, latents: Tensor, cachedir: Path, tmp_path: Path
) -> None:
    family = of_family.base.family
    tuned = fine_tune(of_family, tmp_path / "run", cachedir, **changes)
    written = export(of_family, tuned, ExportFormat.DIFFUSERS, tmp_path / "out")
    pipeline = plain_pipeline(of_family.folder, family)
    prompts = load_token(pipeline, family, tmp_path / "out")
    if changes["method"] is not Method.TEXTUAL_INVERSION:
        pipeline.load_lora_weights(tmp_path / "out")
    with torch.no_grad():
        expected = plain_pictures(pipeline, family, latents, prompts)
    assert (our_pictures(of_family, tuned, latents) - expected).abs().max() <= 1e-4
    has_adapters = changes["method"] is not Method.TEXTUAL_INVERSION
    assert (tmp_path / "out" / "pytorch_lora_weights.safetensors" in written) is has_adapters


def test_a_full_fine_tune_is_a_pipeline_of_its_own(
    of_family: Studio, latents: Tensor, cachedir: Path, tmp_path: Path
) -> None:
    family = of_family.base.family
    changes = {"method": Method.FULL, "train_text_encoder": True}
    tuned = fine_tune(of_family, tmp_path / "run", cachedir, **changes)
    (folder,) = export(of_family, tuned, ExportFormat.DIFFUSERS, tmp_path / "out")
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == PIPELINES[family]
    with torch.no_grad():
        expected = plain_pictures(plain_pipeline(folder, family), family, latents, PROMPTS)
    assert (our_pictures(of_family, tuned, latents) - expected).abs().max() <= 1e-4


def deltas(tensors: Mapping[str, Tensor], down: str, up: str) -> dict[str, Tensor]:
    """What each adapter adds to its layer's weight, as a matrix."""
    return {
        name.removesuffix(down): tensors[name.replace(down, up)].flatten(1) @ tensors[name].flatten(1)
        for name in tensors
        if name.endswith(down)
    }


# For a layer of each kind: the layer of the published kohya files that holds it, and its part of that one's outputs.
PLACES = {
    "stable-diffusion": {
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k": (
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
            0,
        ),
        "unet.mid_block.resnets.1.conv2": ("lora_unet_mid_block_resnets_1_conv2", 0),
        "text_encoder.encoder.layers.0.self_attn.q_proj": (
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
            0,
        ),
    },
    "stable-diffusion-xl": {
        # One layer in a block: input blocks 1 and 2 are the first resolution, 3 is the first of the second.
        "unet.down_blocks.1.attentions.0.proj_in": ("lora_unet_input_blocks_3_1_proj_in", 0),
        "unet.down_blocks.1.resnets.0.conv_shortcut": ("lora_unet_input_blocks_3_0_skip_connection", 0),
        "unet.mid_block.resnets.1.conv1": ("lora_unet_middle_block_2_in_layers_2", 0),
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0": (
            "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_out_0",
            0,
        ),
        "unet.up_blocks.0.resnets.1.conv2": ("lora_unet_output_blocks_1_0_out_layers_3", 0),
        "unet.up_blocks.1.resnets.1.conv1": ("lora_unet_output_blocks_3_0_in_layers_2", 0),
        "text_encoder.encoder.layers.0.self_attn.q_proj": (
            "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
            0,
        ),
        "text_encoder_2.text_model.encoder.layers.0.self_attn.out_proj": (
            "lora_te2_text_model_encoder_layers_0_self_attn_out_proj",
            0,
        ),
    },
    "stable-diffusion-3": {
        "transformer.transformer_blocks.0.attn.to_k": ("lora_unet_joint_blocks_0_x_block_attn_qkv", 1),
        "transformer.transformer_blocks.0.attn2.to_v": ("lora_unet_joint_blocks_0_x_block_attn2_qkv", 2),
        "transformer.transformer_blocks.1.attn.add_q_proj": ("lora_unet_joint_blocks_1_context_block_attn_qkv", 0),
        "transformer.transformer_blocks.0.ff_context.net.2": ("lora_unet_joint_blocks_0_context_block_mlp_fc2", 0),
    },
    "flux": {
        "transformer.transformer_blocks.0.attn.to_q": ("lora_unet_double_blocks_0_img_attn_qkv", 0),
        "transformer.transformer_blocks.0.attn.add_v_proj": ("lora_unet_double_blocks_0_txt_attn_qkv", 2),
        "transformer.transformer_blocks.0.ff.net.0.proj": ("lora_unet_double_blocks_0_img_mlp_0", 0),
        "transformer.single_transformer_blocks.0.attn.to_v": ("lora_unet_single_blocks_0_linear1", 2),
        "transformer.single_transformer_blocks.0.proj_mlp": ("lora_unet_single_blocks_0_linear1", 3),
        "transformer.single_transformer_blocks.0.proj_out": ("lora_unet_single_blocks_0_linear2", 0),
    },
}


@pytest.mark.parametrize("targets", list(Targets))
@pytest.mark.parametrize("dora", [False, True])
def test_the_kohya_layout_keeps_every_weight(
    targets: Targets, dora: bool, of_family: Studio, cachedir: Path, tmp_path: Path
) -> None:
    family = of_family.base.family
    tuned = fine_tune(of_family, tmp_path / "run", cachedir, targets=targets, use_dora=dora, train_text_encoder=True)
    adapters, token = export(of_family, tuned, ExportFormat.KOHYA, tmp_path / "out")
    _, tensors = read_weights(tuned.read())
    theirs = load_file(adapters)
    mine = deltas(tensors, ".lora_A.weight", ".lora_B.weight")
    found = deltas(theirs, ".lora_down.weight", ".lora_up.weight")
    energies = [sum(each.square().sum().item() for each in these.values()) for these in (found, mine)]
    assert energies[0] == pytest.approx(energies[1], rel=1e-5)
    checked = 0
    for layer, (place, part) in PLACES[family].items():
        if layer in mine:
            rows = part * len(mine[layer]) if part < 3 else len(found[place]) - len(mine[layer])
            torch.testing.assert_close(found[place][rows : rows + len(mine[layer])], mine[layer], rtol=1e-6, atol=1e-8)
            assert theirs[f"{place}.alpha"] == len(theirs[f"{place}.lora_down.weight"])
            checked += 1
            if dora:
                lengths = theirs[f"{place}.dora_scale"].flatten()[rows : rows + len(mine[layer])]
                assert torch.equal(lengths, tensors[f"{layer}.lora_magnitude_vector"].flatten())
    assert checked == len(PLACES[family]) or targets is Targets.ATTENTION
    assert checked
    rows = load_file(token)
    assert len(rows) == len(token_rows(tensors))
    assert {each.numel() for each in rows.values()} == {each.numel() for each in token_rows(tensors).values()}


@pytest.mark.parametrize("family", ["stable-diffusion", "stable-diffusion-xl"])
def test_kohya_files_give_the_same_picture_in_plain_diffusers(
    family: str, family_studios: dict[str, Studio], latents: Tensor, cachedir: Path, tmp_path: Path
) -> None:
    """For FLUX diffusers' own reader knows published sizes alone, and for SD3 none is there."""
    of_family = family_studios[family]
    changes = {"method": Method.LORA, "targets": Targets.ATTENTION, "train_text_encoder": True}
    tuned = fine_tune(of_family, tmp_path / "run", cachedir, **changes)
    export(of_family, tuned, ExportFormat.DIFFUSERS, tmp_path / "out")
    adapters, _ = export(of_family, tuned, ExportFormat.KOHYA, tmp_path / "out")
    pipeline = plain_pipeline(of_family.folder, family)
    prompts = load_token(pipeline, family, tmp_path / "out")
    pipeline.load_lora_weights(load_file(adapters))
    with torch.no_grad():
        expected = plain_pictures(pipeline, family, latents, prompts)
    assert (our_pictures(of_family, tuned, latents) - expected).abs().max() <= 1e-4


def test_the_headers_say_what_it_is_and_what_it_answers_to(of_family: Studio, cachedir: Path, tmp_path: Path) -> None:
    tuned = fine_tune(of_family, tmp_path / "run", cachedir, rank=3)
    written = export(of_family, tuned, ExportFormat.KOHYA, tmp_path / "out")
    first = [path.read_bytes() for path in written]
    for path, kind in zip(written, ("lora", "textual-inversion"), strict=True):
        with safe_open(path, "pt") as file:
            headers = file.metadata()
        assert headers["modelspec.architecture"].endswith(f"/{kind}")
        assert headers["modelspec.trigger_phrase"] == PHRASE
        assert headers["modelspec.title"] == headers["ss_output_name"] == TITLE
        assert headers["ss_sd_model_hash"] == of_family.base.digest
        assert (headers["ss_network_dim"], headers["ss_network_alpha"]) == ("3", "3")
        assert json.loads(headers["ss_tag_frequency"]) == {"packshot": {PHRASE: 1}}
    export(of_family, tuned, ExportFormat.KOHYA, tmp_path / "out")
    assert [path.read_bytes() for path in written] == first


def test_the_stored_file_is_exported_as_it_is(of_family: Studio, cachedir: Path, tmp_path: Path) -> None:
    tuned = fine_tune(of_family, tmp_path / "run", cachedir, method=Method.HYPERNETWORK)
    (path,) = export(of_family, tuned, ExportFormat.SAFETENSORS, tmp_path / "out")
    assert path.read_bytes() == tuned.read()
    assert load(tuned.read())


@pytest.mark.parametrize(
    ("method", "form"),
    [
        (Method.HYPERNETWORK, ExportFormat.KOHYA),
        (Method.HYPERNETWORK, ExportFormat.DIFFUSERS),
        (Method.FULL, ExportFormat.KOHYA),
    ],
)
def test_a_layout_that_has_no_place_for_a_method_is_refused(
    method: Method, form: ExportFormat, family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    of_family = family_studios["stable-diffusion"]
    tuned = fine_tune(of_family, tmp_path / "run", cachedir, method=method)
    with pytest.raises(InvalidInput, match=f"no other tool reads a {method} fine-tune in the {form} layout"):
        export(of_family, tuned, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()
