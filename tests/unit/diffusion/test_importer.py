"""What other tools write comes in whole or not at all, and what goes out comes back with every weight."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_families import FAMILIES, quick
from fixtures_pipelines import PHRASE, TOKEN, Studio, base_state, held, loaded, save_pipeline, silent, task, train
from safetensors.torch import load_file, save_file
from torch import Tensor

from packshot.diffusion.exporter import DiffusersExporter
from packshot.diffusion.importer import DiffusersImporter
from packshot.diffusion.weights import read_weights, token_rows
from packshot.domain.errors import BaseModelRefused, ImportRefused, IncompatibleFineTune
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import ExportFormat
from packshot.domain.training_choices import Method, Targets
from packshot.ports import ImportedWeights, LoadedFineTune

TITLE = "produce-apple-fuji-v1"
SAMPLING = SamplingSettings(seed=3, num_images=2, inference_steps=3, guidance_scale=3.0)
DIFFUSERS, KOHYA, SAFETENSORS = ExportFormat.DIFFUSERS, ExportFormat.KOHYA, ExportFormat.SAFETENSORS


@pytest.fixture(params=FAMILIES)
def of_family(request: pytest.FixtureRequest, family_studios: dict[str, Studio]) -> Studio:
    return family_studios[request.param]


def fine_tune(of_family: Studio, workdir: Path, cachedir: Path, **changes: Any) -> LoadedFineTune:
    settings = {"steps": 3, "learning_rate": 1e-2, "token_learning_rate": 5e-2, **changes}
    of = task(of_family, workdir, config=quick(of_family.base.family, **settings), cachedir=cachedir)
    return loaded(of_family, of, train(of_family, of).files["weights.safetensors"])


def export(of_family: Studio, tuned: LoadedFineTune, form: ExportFormat, out: Path) -> list[Path]:
    return DiffusersExporter(of_family.bases).export(of_family.base, tuned, form, TITLE, out)


def take_in(of_family: Studio, *paths: Path, trigger: str = "", method: Method | None = None) -> ImportedWeights:
    importer = DiffusersImporter(of_family.bases)
    found = importer.find(paths)
    return importer.convert(of_family.base, found, class_noun="apple", trigger=trigger, method=method)


def tensors_of(weights: bytes) -> dict[str, Tensor]:
    return read_weights(weights)[1]


def pictures(of_family: Studio, like: LoadedFineTune, taken: ImportedWeights, prompt: str = "") -> list[bytes]:
    record = replace(like.record, method=taken.method, token=taken.token, trained_phrase=taken.trained_phrase)
    served = held(record, taken.weights)
    prompt = prompt or f"a {taken.trained_phrase} on grass"
    return of_family.generator.generate(of_family.base, served, [prompt], SAMPLING, report=silent)


ROUND_TRIPS = [
    ({"method": Method.PIVOTAL, "train_text_encoder": True, "num_vectors": 2}, DIFFUSERS),
    ({"method": Method.PIVOTAL, "train_text_encoder": True, "num_vectors": 2}, KOHYA),
    ({"method": Method.PIVOTAL}, SAFETENSORS),
    ({"method": Method.LORA, "use_dora": True}, DIFFUSERS),
    ({"method": Method.LORA, "use_dora": True, "targets": Targets.ATTENTION}, KOHYA),
    ({"method": Method.LORA, "rank": 3}, SAFETENSORS),
    ({"method": Method.TEXTUAL_INVERSION, "num_vectors": 3}, DIFFUSERS),
    ({"method": Method.TEXTUAL_INVERSION, "num_vectors": 3}, KOHYA),
    ({"method": Method.TEXTUAL_INVERSION}, SAFETENSORS),
    ({"method": Method.FULL}, DIFFUSERS),
    ({"method": Method.FULL, "train_text_encoder": True, "num_vectors": 2}, DIFFUSERS),
    ({"method": Method.FULL}, SAFETENSORS),
    ({"method": Method.HYPERNETWORK}, SAFETENSORS),
]


@pytest.mark.parametrize(
    ("changes", "form"),
    ROUND_TRIPS,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_an_export_comes_back_bit_by_bit_and_makes_the_same_picture(
    changes: dict[str, Any], form: ExportFormat, of_family: Studio, cachedir: Path, tmp_path: Path
) -> None:
    tuned = fine_tune(of_family, tmp_path / "run", cachedir, **changes)
    written = export(of_family, tuned, form, tmp_path / "out")
    before = base_state(of_family)
    taken = take_in(of_family, *written)
    assert taken.weights == tuned.read()
    assert (taken.layout, taken.method, taken.token, taken.trained_phrase) == (form, changes["method"], TOKEN, PHRASE)
    assert base_state(of_family) == before
    prompt = f"a {PHRASE} on grass"
    expected = of_family.generator.generate(of_family.base, tuned, [prompt], SAMPLING, report=silent)
    assert pictures(of_family, tuned, taken) == expected


@pytest.fixture(scope="module")
def sd_lora(studio: Studio, cachedir: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedFineTune:
    return fine_tune(studio, tmp_path_factory.mktemp("run"), cachedir, method=Method.PIVOTAL, targets=Targets.ATTENTION)


def save(path: Path, tensors: Mapping[str, Tensor], **headers: str) -> Path:
    save_file({name: each.contiguous() for name, each in tensors.items()}, path, metadata=headers or None)
    return path


def adapters_of(tuned: LoadedFineTune) -> dict[str, Tensor]:
    return {name: each for name, each in tensors_of(tuned.read()).items() if not name.startswith("token.")}


def peft_names(name: str) -> str:
    return name.replace("unet.", "base_model.model.", 1)


def processor_names(name: str) -> str:
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        for ours, theirs in (("lora_A", "down"), ("lora_B", "up")):
            old = f"processor.{part.removesuffix('.0')}_lora.{theirs}.weight"
            name = name.replace(f"{part}.{ours}.weight", old)
    return name


def kohya_names(name: str) -> str:
    layer, _, part = name.removeprefix("unet.").partition(".lora_")
    return f"lora_unet_{layer.replace('.', '_')}.lora_{'down' if part.startswith('A') else 'up'}.weight"


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name,
        lambda name: name.removeprefix("unet."),
        lambda name: name.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up."),
        lambda name: name.replace(".weight", ".default.weight"),
        processor_names,
        kohya_names,
    ],
    ids=["diffusers", "bare", "older diffusers", "peft's adapter name", "attention processors", "kohya"],
)
def test_the_names_of_other_programs_are_read(
    renamed: Any, studio: Studio, sd_lora: LoadedFineTune, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.safetensors", {renamed(name): each for name, each in adapters_of(sd_lora).items()})
    taken = take_in(studio, path, trigger="ohwx apple")
    assert (taken.method, taken.token, taken.trained_phrase) == (Method.LORA, "", "ohwx apple")
    found, expected = tensors_of(taken.weights), adapters_of(sd_lora)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_sdxl_and_flux_are_read_by_both_of_their_names(
    family_studios: dict[str, Studio], cachedir: Path, tmp_path: Path
) -> None:
    sdxl = family_studios["stable-diffusion-xl"]
    expected = adapters_of(fine_tune(sdxl, tmp_path / "xl", cachedir, method=Method.LORA))
    path = save(tmp_path / "xl.safetensors", {kohya_names(name): each for name, each in expected.items()})
    found = tensors_of(take_in(sdxl, path, trigger="ohwx apple").weights)
    assert found.keys() == expected.keys()
    flux = family_studios["flux"]
    adapters, _ = export(
        flux, fine_tune(flux, tmp_path / "flux", cachedir, method=Method.LORA), KOHYA, tmp_path / "out"
    )
    named = {
        name.replace("lora_unet_double_blocks_0_", "diffusion_model.double_blocks.0.")
        .replace("lora_unet_single_blocks_0_", "diffusion_model.single_blocks.0.")
        .replace("_attn_", "_attn.")
        .replace("_mlp_", "_mlp."): each
        for name, each in load_file(adapters).items()
    }
    kohya = take_in(flux, save(tmp_path / "k.safetensors", load_file(adapters)), trigger="ohwx apple")
    comfy = take_in(flux, save(tmp_path / "c.safetensors", named), trigger="ohwx apple")
    assert kohya.weights == comfy.weights
    assert any(
        name.startswith("transformer.single_transformer_blocks.0.proj_mlp") for name in tensors_of(comfy.weights)
    )


def deltas(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removesuffix(".lora_A.weight"): tensors[name.replace("lora_A", "lora_B")].flatten(1) @ each.flatten(1)
        for name, each in tensors.items()
        if name.endswith(".lora_A.weight")
    }


@pytest.mark.parametrize("source", ["kohya", "diffusers header", "peft", "rslora"])
def test_the_scale_of_an_adapter_is_kept(source: str, studio: Studio, sd_lora: LoadedFineTune, tmp_path: Path) -> None:
    """Rank 2 with alpha 3 is a factor of 1.5, and of 3 / √2 by rsLoRA; half floats stay what they are."""
    halves = {name: each.half() for name, each in adapters_of(sd_lora).items()}
    expected = deltas({name: each.float() for name, each in halves.items()})
    headers: dict[str, str] = {}
    if source == "kohya":
        names = {kohya_names(name): each for name, each in halves.items()}
        names |= {name.replace("lora_down.weight", "alpha"): torch.tensor(3.0) for name in names if "lora_down" in name}
    elif source == "diffusers header":
        names = halves
        headers["lora_adapter_metadata"] = json.dumps(
            {"unet.r": 2, "unet.lora_alpha": 8, "unet.alpha_pattern": {"to_.*": 3}}
        )
    else:
        names = {peft_names(name): each for name, each in halves.items()}
        config = {"r": 2, "lora_alpha": 3, "use_rslora": source == "rslora"}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    path = save(tmp_path / "adapter_model.safetensors", names, **headers)
    found = deltas(tensors_of(take_in(studio, path, trigger="ohwx apple").weights))
    assert found.keys() == expected.keys()
    for name, each in found.items():
        factor = 3 / 2**0.5 if source == "rslora" else 1.5
        torch.testing.assert_close(each, factor * expected[name], rtol=1e-5, atol=1e-9)


def test_foreign_words_are_read_with_the_vocabulary_of_the_base(
    studio: Studio, sd_lora: LoadedFineTune, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.safetensors", adapters_of(sd_lora))
    taken = take_in(studio, path, trigger="pear apple")
    bare = studio.generator.generate(studio.base, None, ["a pear apple"], SAMPLING, report=silent)
    assert pictures(studio, sd_lora, taken, "a pear apple") != bare
    again = DiffusersExporter(studio.bases).export(
        studio.base,
        held(replace(sd_lora.record, method=Method.LORA, token="", trained_phrase="pear apple"), taken.weights),
        KOHYA,
        TITLE,
        tmp_path / "out",
    )
    assert [each.name for each in again] == [f"{TITLE}.safetensors"]
    assert take_in(studio, *again).weights == taken.weights


def test_the_trigger_phrase_is_taken_from_headers_that_hold_one(
    studio: Studio, sd_lora: LoadedFineTune, tmp_path: Path
) -> None:
    adapters = adapters_of(sd_lora)
    path = save(tmp_path / "a.safetensors", adapters, **{"modelspec.trigger_phrase": "ohwx apple"})
    assert take_in(studio, path).trained_phrase == "ohwx apple"
    assert take_in(studio, path, trigger="zwx  apple").trained_phrase == "zwx apple"
    tags = save(tmp_path / "b.safetensors", adapters, ss_tag_frequency=json.dumps({"ohwx apple": {"fruit": 9}}))
    with pytest.raises(ImportRefused, match="which words they were trained with.*--trigger"):
        take_in(studio, tags)
    with pytest.raises(ImportRefused, match="too long, or has control characters"):
        take_in(studio, tags, trigger="an\x00apple")


def test_an_embedding_gets_a_token_that_nobody_can_spell(studio: Studio, tmp_path: Path) -> None:
    vector = torch.randn(16, generator=torch.Generator().manual_seed(5))
    named = take_in(studio, save(tmp_path / "learned_embeds.safetensors", {"<cat-toy>": vector}))
    assert (named.method, named.layout) == (Method.TEXTUAL_INVERSION, DIFFUSERS)
    assert named.token == named.trained_phrase
    assert named.token.startswith("<packshot-")
    assert torch.equal(token_rows(tensors_of(named.weights))["text_encoder"], vector[None])
    nameless = save(tmp_path / "fujiapple.safetensors", {"emb_params": torch.stack([vector, vector + 1])})
    taken = take_in(studio, nameless, trigger="fujiapple fruit")
    assert (taken.layout, taken.trained_phrase) == (KOHYA, f"{taken.token} fruit")
    for trigger in ("", "apple"):
        with pytest.raises(ImportRefused, match="stands for the word 'fujiapple'"):
            take_in(studio, nameless, trigger=trigger)
    with pytest.raises(IncompatibleFineTune, match=r"the shape \(17,\).*text_encoder \(16 wide\)"):
        take_in(studio, save(tmp_path / "wide.safetensors", {"<t>": torch.zeros(17)}))


def test_every_text_encoder_needs_its_embedding(family_studios: dict[str, Studio], tmp_path: Path) -> None:
    sdxl = family_studios["stable-diffusion-xl"]
    both = {"clip_l": torch.ones(2, 16), "clip_g": torch.ones(2, 8)}
    assert take_in(sdxl, save(tmp_path / "fuji.safetensors", both), trigger="fuji").trained_phrase.startswith(
        "<packshot-"
    )
    with pytest.raises(IncompatibleFineTune, match="no embedding for text_encoder_2"):
        take_in(sdxl, save(tmp_path / "fuji.safetensors", {"clip_l": both["clip_l"]}), trigger="fuji")
    with pytest.raises(IncompatibleFineTune, match="'emb_params'"):
        take_in(sdxl, save(tmp_path / "fuji.safetensors", {"emb_params": torch.ones(16)}), trigger="fuji")


def test_files_for_something_else_are_refused(
    studio: Studio, family_studios: dict[str, Studio], sd_lora: LoadedFineTune, tmp_path: Path
) -> None:
    adapters = adapters_of(sd_lora)
    sdxl = family_studios["stable-diffusion-xl"]
    told = save(tmp_path / "a.safetensors", adapters, ss_base_model_version="sdxl_base_v1-0")
    with pytest.raises(IncompatibleFineTune, match="'sdxl_base_v1-0'.*of the family stable-diffusion-xl.*--base"):
        take_in(studio, told, trigger="ohwx")
    with pytest.raises(
        IncompatibleFineTune, match=r"adapter of the shapes .* for 'unet\..*the base's layer is .*--base"
    ):
        take_in(sdxl, save(tmp_path / "b.safetensors", adapters), trigger="ohwx")
    with pytest.raises(IncompatibleFineTune, match="'unet.nowhere.to_q', and the base has no such layer"):
        take_in(
            studio, save(tmp_path / "c.safetensors", {"unet.nowhere.to_q.lora_A.weight": torch.ones(2, 2)}), trigger="o"
        )
    other = Studio(save_pipeline(tmp_path / "other", seed=1))
    for form in (DIFFUSERS, KOHYA, SAFETENSORS):
        written = export(studio, sd_lora, form, tmp_path / form)
        with pytest.raises(IncompatibleFineTune, match=f"{studio.base.digest[:12]}.*{other.base.digest[:12]}.*--base"):
            take_in(other, *written)


def test_what_is_no_whole_fine_tune_is_refused(studio: Studio, sd_lora: LoadedFineTune, tmp_path: Path) -> None:
    adapters = adapters_of(sd_lora)
    first = min(adapters)
    layer = first.partition(".lora_")[0]

    def refused(match: str, tensors: Mapping[str, Tensor], **options: Any) -> None:
        with pytest.raises(ImportRefused, match=match):
            take_in(studio, save(tmp_path / "x.safetensors", tensors), **{"trigger": "ohwx apple", **options})

    refused("lacks the upper factor", {f"{layer}.lora_A.weight": adapters[f"{layer}.lora_A.weight"]})
    refused("LoRA and DoRA are read", {**adapters, f"{layer}.hada_w1_a": torch.ones(2)})
    refused("NaN or infinite", {**adapters, first: adapters[first] * float("nan")})
    refused("two adapters", {**adapters, **{name.removeprefix("unet."): adapters[name].clone() for name in adapters}})
    refused("full weights is imported as its folder", {"conv_in.weight": torch.ones(2), "conv_in.bias": torch.ones(2)})
    refused("--method full was asked for, and the files hold lora", adapters, method=Method.FULL)
    refused("adapter_config.json", {peft_names(name): each for name, each in adapters.items()})
    refused("embedding is not among the files", adapters, trigger=PHRASE)
    only_adapters, _ = export(studio, sd_lora, DIFFUSERS, tmp_path / "out")
    with pytest.raises(ImportRefused, match="embedding is not among the files"):
        take_in(studio, only_adapters)


def test_what_cannot_be_read_safely_is_refused(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"pickled")
    for path in (tmp_path / "a.ckpt", tmp_path):
        with pytest.raises(ImportRefused, match="a.ckpt is a pickle"):
            take_in(studio, path)
    damaged = tmp_path / "sub" / "b.safetensors"
    damaged.parent.mkdir()
    damaged.write_bytes(b"\xff" * 100)
    with pytest.raises(ImportRefused, match=r"b.safetensors cannot be read, or is damaged"):
        take_in(studio, damaged)
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "holds no .safetensors file")):
        with pytest.raises(ImportRefused, match=message):
            take_in(studio, path)
    with pytest.raises(ImportRefused, match="one folder, or files"):
        take_in(studio, tmp_path / "empty", damaged)


def test_a_pipeline_of_others_is_a_full_fine_tune(studio: Studio, base_folder: Path, tmp_path: Path) -> None:
    """Its text encoder's vocabulary may have learned too."""
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(base_folder)
    with torch.no_grad():
        pipeline.unet.conv_in.bias += 0.5
        pipeline.text_encoder.get_input_embeddings().weight *= 1.5
    pipeline.save_pretrained(tmp_path / "theirs")
    taken = take_in(studio, tmp_path / "theirs", trigger="ohwx apple")
    assert (taken.method, taken.token) == (Method.FULL, "")
    like = loaded(studio, task(studio, tmp_path), b"")
    theirs = Studio(tmp_path / "theirs")
    prompts = ["a ohwx apple on grass"]
    expected = theirs.generator.generate(theirs.base, None, prompts, SAMPLING, report=silent)
    assert pictures(studio, like, taken, prompts[0]) == expected
    with pytest.raises(ImportRefused, match="which words they were trained with"):
        take_in(studio, tmp_path / "theirs")


def test_a_pipeline_that_no_fine_tune_can_hold_is_refused(
    studio: Studio, base_folder: Path, family_studios: dict[str, Studio], tmp_path: Path
) -> None:
    import shutil

    with pytest.raises(ImportRefused, match="is the base itself"):
        take_in(studio, base_folder, trigger="ohwx")
    with pytest.raises(IncompatibleFineTune, match="of the family flux"):
        take_in(studio, family_studios["flux"].folder, trigger="ohwx")
    with pytest.raises(IncompatibleFineTune, match="another autoencoder"):
        take_in(studio, save_pipeline(tmp_path / "other", seed=1), trigger="ohwx")
    v = shutil.copytree(base_folder, tmp_path / "v")
    config = json.loads((v / "scheduler" / "scheduler_config.json").read_text())
    (v / "scheduler" / "scheduler_config.json").write_text(json.dumps({**config, "prediction_type": "v_prediction"}))
    with pytest.raises(IncompatibleFineTune, match="predicts v_prediction, and the base epsilon"):
        take_in(studio, v, trigger="ohwx")
    (v / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ImportRefused, match="is a pickle"):
        take_in(studio, v, trigger="ohwx")
    shutil.rmtree(v / "unet")
    with pytest.raises(BaseModelRefused, match="has no unet"):
        take_in(studio, v, trigger="ohwx")
