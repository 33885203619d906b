"""The bundled base and judge as they lie in the package: whole, small, safe, and doing what they are for."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from fixtures_pipelines import png, without_progress_bars
from safetensors import safe_open
from transformers import CLIPTokenizer

from packshot.embedded import WEIGHTS_FOLDER
from packshot.embedded.bundle import BASE, CLIP, EMBEDDER, MANIFEST, bundled_base, bundled_judge, check_bundle
from packshot.judging.transformers_judge import TransformersJudge

pytestmark = pytest.mark.skipif(
    not (WEIGHTS_FOLDER / MANIFEST).is_file(), reason="this copy has no bundled weights; see recipes/embedded"
)

EDGE = 128
FILES = [path for path in sorted(WEIGHTS_FOLDER.rglob("*")) if path.is_file()]


def test_every_file_is_that_of_the_manifest():
    check_bundle(WEIGHTS_FOLDER)
    listed = json.loads((WEIGHTS_FOLDER / MANIFEST).read_bytes())["files"]
    assert {path.relative_to(WEIGHTS_FOLDER).as_posix() for path in FILES} == {*listed, MANIFEST}


def test_it_is_small_and_holds_no_pickle():
    assert sum(path.stat().st_size for path in FILES) < 60e6
    assert {path.suffix for path in FILES} <= {".safetensors", ".json", ".txt", ".md"}


def test_its_weights_are_16_bit_floats():
    for path in (path for path in FILES if path.suffix == ".safetensors"):
        with safe_open(path, "pt") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        assert "F16" in kinds, path
        assert kinds <= {"F16", "I64"}, path


def test_no_configuration_names_a_local_folder():
    for path in (path for path in FILES if path.suffix == ".json"):
        assert "name_or_path" not in path.read_text(encoding="utf-8"), path


def test_the_pipeline_of_diffusers_draws_with_it():
    with without_progress_bars():
        pipeline = StableDiffusionPipeline.from_pretrained(bundled_base(), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    (picture,) = pipeline(
        "a photo of an apple on a wooden table, natural light",
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
    ).images
    assert picture.size == (EDGE, EDGE)
    assert np.asarray(picture).std() > 10


@pytest.mark.parametrize("text", ["a photo of sks_honeycrisp apple", "smörgås åäö 日本 ✓ qzx!", "🍎 1234 (50 %)", ""])
def test_its_tokenizer_spells_any_text(text):
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS_FOLDER / BASE / "tokenizer")
    spelled = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
    assert spelled.replace(" ", "") == text.lower().replace(" ", "")
    assert len(tokenizer(text * 100, truncation=True)["input_ids"]) <= tokenizer.model_max_length


def test_its_judge_looks_at_pictures():
    judge = TransformersJudge(bundled_judge(EMBEDDER), bundled_judge(CLIP))
    embeddings = judge.embed([png(0), png(1)], [None, None])
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx([1, 1])
    assert embeddings[0] != embeddings[1]
    assert np.isfinite(judge.adherence([png(0)], ["an apple on a wooden table, warm light"])).all()


def test_it_is_registered_and_listed_as_embedded(shell):
    added = shell("base", "add", "embedded", "--json").json
    assert (added["source"], added["resolution"]) == ("embedded", EDGE)
    (row,) = shell("base", "list").out.splitlines()[1:]
    assert row.split()[:6] == [
        "embedded", "stable-diffusion", str(EDGE), "px", added["prediction_type"], added["digest"][:12],
    ]  # fmt: skip
    assert added["prediction_type"] in ("epsilon", "v_prediction")


def test_its_model_card_can_be_read():
    card = (WEIGHTS_FOLDER / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "Grocery Store Dataset" in card
