"""Which models the judge takes, what it refuses, and that it never invents a number."""

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_judges
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from packshot.domain.errors import JudgeUnusable
from packshot.domain.evaluation import cosine
from packshot.imaging.pixels import encode_png
from packshot.judging.transformers_judge import TransformersJudge

RED = (200, 40, 40)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a judge from folders opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return tiny_judges.clip(tmp_path / "clip")


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return tiny_judges.vit(tmp_path / "vit")


def picture(seed: int = 0) -> Image.Image:
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize((48, 48), Image.Resampling.BICUBIC)


def png(seed: int = 0) -> bytes:
    return encode_png(picture(seed))


MAKERS: list[Callable[[Path], Path]] = [
    tiny_judges.vit,
    lambda folder: tiny_judges.vit(folder, pooler=False),
    tiny_judges.dinov2,
    tiny_judges.convnext,
    tiny_judges.resnet,
    tiny_judges.clip,
]


@pytest.mark.parametrize("make", MAKERS, ids=["vit", "dino", "dinov2", "convnext", "resnet", "clip"])
def test_every_kind_of_image_model_embeds_reproducibly(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "embedder")
    first = TransformersJudge(folder, folder).embed([png(0), png(1)], [None, None])
    again = TransformersJudge(str(folder), folder).embed([png(0), png(1)], [None, None])
    assert first == again, "no part of the model may be drawn at random when it is loaded"
    assert all(math.isclose(cosine(each, each), 1, rel_tol=1e-6) for each in first)
    assert first[0] != first[1]
    assert len(first[0]) == (16 if make is tiny_judges.clip else 32)


def test_a_mask_hides_the_background(vit: Path, clip: Path) -> None:
    mask = Image.new("L", (48, 48))
    mask.paste(255, (10, 10, 30, 30))
    product = Image.new("RGB", (48, 48), RED)
    photos = [encode_png(Image.composite(product, picture(seed), mask)) for seed in (0, 1)]
    judge = TransformersJudge(vit, clip)
    whole = judge.embed(photos, [None, None])
    alone = judge.embed(photos, [encode_png(mask)] * 2)
    assert cosine(*alone) == pytest.approx(1, abs=1e-6)
    assert cosine(*whole) < cosine(*alone) - 1e-4


def test_adherence_depends_on_picture_and_prompt_alone(vit: Path, clip: Path) -> None:
    judge = TransformersJudge(vit, clip)
    scores = judge.adherence([png(0), png(0), png(1)], ["an apple", "a pear on a long wooden table", "an apple"])
    assert len(set(scores)) == 3
    assert judge.adherence([png(0)], ["an apple"])[0] == pytest.approx(scores[0], abs=1e-5)


def test_the_digest_follows_the_weights(vit: Path, clip: Path, tmp_path: Path) -> None:
    before = TransformersJudge(vit, clip).digest
    assert TransformersJudge(tiny_judges.vit(tmp_path / "same"), clip).digest == before
    weights = load_file(vit / "model.safetensors")
    weights["layernorm.bias"] += 1
    save_file(weights, vit / "model.safetensors", metadata={"format": "pt"})
    assert TransformersJudge(vit, clip).digest != before


@pytest.mark.parametrize("value", [math.nan, 0.0])
def test_a_broken_model_gives_nan_and_no_invented_number(vit: Path, clip: Path, value: float) -> None:
    broken = {"vit": "pooler.dense", "clip": "visual_projection"}
    for folder, name in ((vit, broken["vit"]), (clip, broken["clip"])):
        weights = load_file(folder / "model.safetensors")
        for key in [key for key in weights if key.startswith(name)]:
            weights[key] = torch.full_like(weights[key], value)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    judge = TransformersJudge(vit, clip)
    assert all(math.isnan(number) for number in judge.embed([png()], [None])[0])
    assert math.isnan(judge.adherence([png()], ["an apple"])[0])


def test_models_are_not_touched_before_they_are_needed(tmp_path: Path) -> None:
    TransformersJudge(tmp_path / "nowhere", tmp_path / "neither")


def test_a_missing_folder_is_named(tmp_path: Path, clip: Path) -> None:
    judge = TransformersJudge(tmp_path / "nowhere", clip)
    for ask in (lambda: judge.digest, lambda: judge.embed([png()], [None])):
        with pytest.raises(JudgeUnusable, match=r"nowhere.*PACKSHOT_JUDGE_EMBEDDER"):
            ask()


def test_a_model_that_reads_no_prompts_is_refused_as_clip(vit: Path) -> None:
    with pytest.raises(JudgeUnusable, match="ViTModel"):
        TransformersJudge(vit, vit).adherence([png()], ["an apple"])


def test_pickled_weights_are_not_loaded(vit: Path, clip: Path) -> None:
    torch.save(load_file(vit / "model.safetensors"), vit / "pytorch_model.bin")
    (vit / "model.safetensors").unlink()
    with pytest.raises(JudgeUnusable, match="safetensors"):
        TransformersJudge(vit, clip).embed([png()], [None])


@pytest.mark.parametrize("damage", ["no processor", "no config", "cut weights", "weights missing", "other shapes"])
def test_a_damaged_embedder_is_refused(vit: Path, clip: Path, damage: str) -> None:
    weights = vit / "model.safetensors"
    if damage == "no processor":
        (vit / "preprocessor_config.json").unlink()
    elif damage == "no config":
        (vit / "config.json").unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "weights missing":
        kept = {key: value for key, value in load_file(weights).items() if "layernorm" not in key}
        save_file(kept, weights, metadata={"format": "pt"})
    else:
        config = json.loads((vit / "config.json").read_text())
        (vit / "config.json").write_text(json.dumps(config | {"hidden_size": 16}))
    with pytest.raises(JudgeUnusable, match="vit"):
        TransformersJudge(vit, clip).embed([png()], [None])


def test_a_missing_tokenizer_is_refused(vit: Path, clip: Path) -> None:
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (clip / name).unlink()
    with pytest.raises(JudgeUnusable, match="tokenizer"):
        TransformersJudge(vit, clip).adherence([png()], ["an apple"])


def test_a_tokenizer_of_another_model_is_refused(vit: Path, clip: Path) -> None:
    words = json.loads((clip / "vocab.json").read_text())
    (clip / "vocab.json").write_text(json.dumps(words | {"apple</w>": len(words)}))
    with pytest.raises(JudgeUnusable, match="tokens and the model knows"):
        TransformersJudge(vit, clip).adherence([png()], ["an apple"])


def test_code_in_a_model_folder_is_never_run(vit: Path, clip: Path, tmp_path: Path) -> None:
    config = json.loads((vit / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (vit / "config.json").write_text(json.dumps(config))
    (vit / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(JudgeUnusable):
        TransformersJudge(vit, clip).embed([png()], [None])
    assert not (tmp_path / "ran").exists()


def test_loading_is_silent(vit: Path, clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    judge = TransformersJudge(vit, clip)
    judge.embed([png()], [None])
    judge.adherence([png()], ["an apple"])
    assert "".join(capfd.readouterr()) == ""
