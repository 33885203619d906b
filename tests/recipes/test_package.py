"""The packaging program on tiny models: what it writes, that it loads, and that a refusal changes nothing."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_judges
import torch
import yaml
from diffusers import StableDiffusionPipeline
from fixtures_pipelines import RESOLUTION, png, save_pipeline, without_progress_bars
from safetensors.torch import load_file, save_file

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.digests import FileDigests
from packshot.embedded.bundle import CLIP, EMBEDDER, MANIFEST, bundled_base, bundled_judge
from packshot.judging.transformers_judge import TransformersJudge

RECIPE = Path(__file__).parents[2] / "recipes" / "embedded"
UNET = "base/unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder as the training programs leave it."""
    work = tmp_path_factory.mktemp("trained")
    with without_progress_bars():
        pipeline = StableDiffusionPipeline.from_pretrained(save_pipeline(work / "plain"))
        pipeline.save_pretrained(work / "base")
        tiny_judges.vit(work / "judge" / "embedder")
        tiny_judges.clip(work / "judge" / "clip")
    shutil.rmtree(work / "plain")
    embedder = work / "judge/embedder/model.safetensors"
    save_file(load_file(embedder) | {"places": torch.tensor([3, 1])}, embedder, metadata={"made": str(work)})
    clip = json.loads((work / "judge/clip/config.json").read_text())
    edit_json(work / "judge/clip/config.json", text_config=clip["text_config"] | {"_name_or_path": str(work)})
    for name, content in {
        "autoencoder/report.json": {"psnr_photo": 24.912, "psnr_render": 35.0},
        "judge/report.json": {"top1": {"photos": 0.8125}, "sheet": str(work / "judge/sheet.png"), "pairs": 400},
        "check/report.json": {"class": 0.93},
        "autoencoder/losses.jsonl": {"pyramid": 0.1161, "kl": 3.2, "step": 13775, "spent_s": 3600.0},
        "base_run/losses.jsonl": {"loss": 0.11712, "gradient_norm": 0.2, "step": 2250, "spent_s": 5400.0},
        "judge/embedder_run/losses.jsonl": {"loss": 1.5, "step": 900, "spent_s": 720.0},
        "judge/clip_run/losses.jsonl": {"loss": 2.25, "step": 800, "spent_s": 720.0},
        "base_run/validation.jsonl": {"step": 2200, "minutes": 88.0, "loss": 0.12345},
        "corpus/index.jsonl": {"source": "photo", "split": "held-out"},
    }.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(json.dumps(content) + "\n")
    return work


def run(work: Path, target: Path, *arguments: object) -> object:
    """Run the program; returns what it ended with: 0, or its message."""
    with pytest.MonkeyPatch.context() as patch, without_progress_bars():
        patch.setenv("PACKSHOT_RECIPE_WORK", str(work))
        patch.syspath_prepend(RECIPE)
        patch.setattr(sys, "argv", ["06_package.py", "--threads", "1", "--target", str(target), *map(str, arguments)])
        try:
            runpy.run_path(str(RECIPE / "06_package.py"), run_name="__main__")
        except SystemExit as ended:
            return ended.code
    return 0


@pytest.fixture(scope="module")
def target(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of ``trained``."""
    folder = tmp_path_factory.mktemp("package") / "weights"
    assert run(trained, folder) == 0
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_package_loads_as_users_load_it(trained: Path, target: Path) -> None:
    with without_progress_bars():
        pipeline = StableDiffusionPipeline.from_pretrained(bundled_base(target))
    pipeline.set_progress_bar_config(disable=True)
    (picture,) = pipeline("an apple", num_inference_steps=2).images
    assert picture.size == (RESOLUTION, RESOLUTION)
    bases = DiffusersBaseModels(embedded=lambda: bundled_base(target), digests=FileDigests(), device="cpu")
    with bases.borrow(bases.describe("embedded")) as loaded:
        assert {parameter.dtype for parameter in loaded.denoiser.parameters()} == {torch.float32}
    judge = TransformersJudge(bundled_judge(EMBEDDER, target), bundled_judge(CLIP, target))
    assert len(judge.adherence([png(0)], ["an apple"])) == len(judge.embed([png(0)], [None])) == 1
    assert (trained / "package-sheet.png").is_file()


def test_weights_are_the_trained_ones_in_16_bits(trained: Path, target: Path) -> None:
    kinds = set()
    for path in sorted(target.rglob("*.safetensors")):
        original, packed = load_file(trained / path.relative_to(target)), load_file(path)
        assert original.keys() == packed.keys()
        for name, tensor in packed.items():
            torch.testing.assert_close(tensor.to(original[name].dtype), original[name], rtol=1e-3, atol=1e-6)
            kinds.add((original[name].dtype, tensor.dtype))
    assert kinds == {(torch.float32, torch.float16), (torch.int64, torch.int64)}


def test_no_file_names_the_local_folder_and_configurations_keep_all_else(trained: Path, target: Path) -> None:
    assert all(str(trained).encode() not in content for content in files(target).values())
    for name in ("base/unet/config.json", "judge/clip/config.json"):
        original, packed = (json.loads((folder / name).read_bytes()) for folder in (trained, target))
        for place in (original, original.get("text_config", {})):
            place.pop("_name_or_path", None)
        assert packed == original


def test_the_manifest_lists_every_file_and_nothing_else_is_left(target: Path) -> None:
    assert set(json.loads((target / MANIFEST).read_text())["files"]) == set(files(target)) - {MANIFEST}
    assert list(target.parent.iterdir()) == [target]


def test_the_model_card_follows_the_conventions_and_gives_the_figures(trained: Path, target: Path) -> None:
    _, header, text = (target / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["license"], facts["pipeline_tag"]) == ("apache-2.0", "text-to-image")
    assert "diffusers" in facts["tags"]
    for part in (
        "Grocery Store Dataset", "Copyright (c) 2019 Marcus Klasson", "pink-lady", "epsilon", "4 latent channels",
        "| autoencoder | psnr photo | 24.91 |", "| judge | top1: photos | 0.8125 |", "| judge | pairs | 400 |",
        "| check | class | 0.93 |", "| autoencoder | 13775 | 60 | pyramid 0.1161, kl 3.2 |",
        "| text encoder and UNet | 2250 | 90 | loss 0.1171, validation 0.1235 |", "| photos | 0 | 0 | 1 |",
        "| judge: embedder | 900 | 12 | loss 1.5 |", "| judge: CLIP | 800 | 12 | loss 2.25 |",
    ):  # fmt: skip
        assert part in text, part
    assert "$" not in text


def test_fine_tunes_that_were_measured_on_a_package_go_into_its_card_and_replace_former_ones(
    trained: Path, target: Path, tmp_path: Path
) -> None:
    work, weights = tmp_path / "work", tmp_path / "weights"
    shutil.copytree(target, weights)
    assert "Not measured on these weights." in (weights / "README.md").read_text()
    sample = {"seconds": 98.44, "relative_fidelity": 0.8912, "nearest": 1.0, "nearest_base": 0.25, "scene": 0.975}
    sample |= {"scene_base": 1.0, "drift": 0.1284, "drift_without_prior": 0.2961}
    real = {"seconds": 61.2, "probe": 0.6, "probe_base": 0.15, "probe_photos": 0.75}
    for fidelity in (0.5, 0.8912):
        report = {"produce/apple/honeycrisp": sample | {"relative_fidelity": fidelity}, "pear/conference": real}
        report["pear/interrupted"] = real | {"seconds": None}
        (work / "fine_tunes").mkdir(parents=True, exist_ok=True)
        (work / "fine_tunes/report.json").write_text(json.dumps(report))
        assert run(work, weights, "--fine-tunes") == 0
    assert run(work, weights, "--check") == 0
    card = (weights / "README.md").read_text()
    assert "| produce/apple/honeycrisp | 98.4 | 0.891 | 1 (0.25) | 0.975 (1) | 0.128 (0.296) |" in card
    assert "| pear/conference | 61.2 | 0.6 (0.15) | 0.75 |" in card
    assert "| pear/interrupted | interrupted | 0.6 (0.15) | 0.75 |" in card
    assert card.count("## Fine-tunes") == card.count("## Limits") == 1
    assert "0.5 |" not in card and "Not measured" not in card
    before = files(weights)
    assert "bytes larger" in str(run(work, weights, "--fine-tunes", "--max-megabytes", "0.001"))
    assert files(weights) == before


def test_a_new_package_replaces_the_former_one_and_equals_it(trained: Path, target: Path, tmp_path: Path) -> None:
    former = tmp_path / "weights"
    former.mkdir()
    (former / "stale").write_text("of an earlier package")
    assert run(trained, former) == 0
    assert files(former) == files(target)
    assert list(tmp_path.iterdir()) == [former]


def test_a_base_alone_replaces_that_of_a_package_and_leaves_the_judge(
    trained: Path, target: Path, tmp_path: Path
) -> None:
    """Where the work folder has nothing but a base: the figures of the rest are those of the former card."""
    work, weights = tmp_path / "work", tmp_path / "weights"
    shutil.copytree(target, weights)
    for name in ("base", "base_run", "corpus"):
        shutil.copytree(trained / name, work / name)
    negate_a_bias(work / UNET)
    losses = json.loads((work / "base_run/losses.jsonl").read_text()) | {"step": 4500}
    (work / "base_run/losses.jsonl").write_text(json.dumps(losses) + "\n")
    assert "is missing" in str(run(work, weights))
    assert run(work, weights, "--base-alone") == 0
    before, after = files(target), files(weights)
    assert {name for name in after if after[name] != before[name]} == {UNET, "README.md", MANIFEST}
    without_check = [line for line in before["README.md"].decode().splitlines() if not line.startswith("| check")]
    assert [line.replace("| 4500 |", "| 2250 |") for line in after["README.md"].decode().splitlines()] == without_check


def negate_a_bias(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["conv_in.bias"] = -tensors["conv_in.bias"] - 1
    save_file(tensors, weights, metadata={"format": "pt"})


def remove(name: str) -> Callable[[Path], object]:
    def damage(work: Path) -> None:
        path = work / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    damage.__name__ = f"without {name}"
    return damage


def too_large_a_number(work: Path) -> None:
    weights = work / UNET
    tensors = load_file(weights)
    tensors["conv_in.bias"][0] = 1e6
    save_file(tensors, weights, metadata={"format": "pt"})


def not_a_number(work: Path) -> None:
    weights = work / "judge/embedder/model.safetensors"
    tensors = load_file(weights)
    tensors["layernorm.weight"][0] = torch.nan
    save_file(tensors, weights, metadata={"format": "pt"})


def a_pickle(work: Path) -> None:
    (work / "base/unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")


def a_path_that_is_not_stripped(work: Path) -> None:
    edit_json(work / "judge/embedder/config.json", trained_in=str(work))


def half_a_file(work: Path) -> None:
    (work / UNET).write_bytes((work / UNET).read_bytes()[:1000])


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (remove("base"), "model_index.json"),
    (remove("base/unet"), "no unet"),
    (remove("base/tokenizer"), "no tokenizer"),
    (remove("judge/embedder"), "judge/embedder/config.json is missing"),
    (remove("judge/embedder/preprocessor_config.json"), "preprocessor_config.json is missing"),
    (remove("judge/clip/model.safetensors"), "judge/clip/model.safetensors is missing"),
    (remove("judge/clip/vocab.json"), "no tokenizer.json and no vocab.json"),
    (remove("judge/report.json"), "judge/report.json is missing"),
    (remove("autoencoder/report.json"), "autoencoder/report.json is missing"),
    (remove("base_run/losses.jsonl"), "base_run/losses.jsonl is missing"),
    (too_large_a_number, "conv_in.bias"),
    (not_a_number, "not finite"),
    (a_pickle, "pickle"),
    (a_path_that_is_not_stripped, "names the local folder"),
    (half_a_file, "damaged weights"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_what_cannot_be_packaged_changes_nothing(
    trained: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    work, package = Path(shutil.copytree(trained, tmp_path / "work")), tmp_path / "package"
    package.mkdir()
    (package / "former").write_text("what was packaged before")
    damage(work)
    assert message in str(run(work, package))
    assert files(package) == {"former": b"what was packaged before"}
    assert {path.name for path in tmp_path.iterdir()} == {"work", "package"}


def test_a_package_over_the_limit_changes_nothing(trained: Path, tmp_path: Path) -> None:
    message = str(run(trained, tmp_path / "weights", "--max-megabytes", 0.01))
    assert "at most 0.01 are allowed" in message
    assert "base " in message
    assert list(tmp_path.iterdir()) == []


def test_check_finds_what_was_changed_since(trained: Path, target: Path, tmp_path: Path) -> None:
    package = Path(shutil.copytree(target, tmp_path / "weights"))
    assert run(trained, package, "--check") == 0
    assert "are allowed" in str(run(trained, package, "--check", "--max-megabytes", 0.01))
    data = (package / UNET).read_bytes()
    (package / UNET).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert f"{UNET} is altered" in str(run(trained, package, "--check"))
    shutil.rmtree(package)
    assert MANIFEST in str(run(trained, package, "--check"))
