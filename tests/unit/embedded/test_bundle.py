"""The bundled weights are those of their manifest, or a typed error names the file that is not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from packshot.domain.errors import BaseModelRefused, CorruptArtifact, JudgeUnusable
from packshot.embedded.bundle import (
    CLIP,
    EMBEDDER,
    MANIFEST,
    bundled_base,
    bundled_base_version,
    bundled_judge,
    check_bundle,
    write_manifest,
)

UNET = "base/unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    for name in (UNET, "base/model_index.json", "judge/embedder/config.json", "judge/clip/config.json", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the content of {name}")
    write_manifest(folder)
    return folder


def test_whole_files_are_found(weights: Path) -> None:
    check_bundle(weights)
    assert bundled_base(weights) == weights / "base"
    assert bundled_judge(EMBEDDER, weights) == weights / "judge" / "embedder"
    assert bundled_judge(CLIP, weights) == weights / "judge" / "clip"


def test_bundled_bases_are_told_apart_by_their_denoiser(weights: Path, tmp_path: Path) -> None:
    version = bundled_base_version(weights)
    alter(weights / "README.md")
    write_manifest(weights)
    assert bundled_base_version(weights) == version
    alter(weights / UNET)
    write_manifest(weights)
    assert bundled_base_version(weights) not in (version, None)
    assert bundled_base_version(tmp_path / "nothing") is None


def alter(file: Path) -> None:
    """One bit, at the same size."""
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def add_beside(file: Path) -> None:
    file.with_name("model.safetensors.index.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "state"),
    [(alter, f"{UNET} is altered"), (Path.unlink, f"{UNET} is missing"), (add_beside, "is not of the package")],
)
def test_a_damaged_base_names_the_file_and_leaves_the_judge_usable(
    weights: Path, damage: Callable[[Path], None], state: str
) -> None:
    damage(weights / UNET)
    for check in (bundled_base, check_bundle):
        with pytest.raises(CorruptArtifact, match=state):
            check(weights)
    assert bundled_judge(CLIP, weights).is_dir()


def test_a_damaged_judge_names_the_file(weights: Path) -> None:
    alter(weights / "judge/clip/config.json")
    with pytest.raises(CorruptArtifact, match="judge/clip/config.json is altered"):
        bundled_judge(CLIP, weights)
    assert bundled_judge(EMBEDDER, weights).is_dir()


def test_the_model_card_is_of_the_package_too(weights: Path) -> None:
    alter(weights / "README.md")
    with pytest.raises(CorruptArtifact, match=r"README\.md is altered"):
        check_bundle(weights)


def test_hidden_files_that_file_managers_leave_do_no_harm(weights: Path) -> None:
    (weights / "base" / ".DS_Store").write_bytes(b"\0")
    check_bundle(weights)


def test_without_weights_the_message_says_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(BaseModelRefused, match="--base"):
        bundled_base(tmp_path / "weights")
    with pytest.raises(JudgeUnusable, match="PACKSHOT_JUDGE_CLIP"):
        bundled_judge(CLIP, tmp_path / "weights")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', '{"files": {"base/a": 3}}'])
def test_a_damaged_manifest_is_named(weights: Path, content: str) -> None:
    (weights / MANIFEST).write_text(content)
    with pytest.raises(CorruptArtifact, match=r"manifest\.json is damaged"):
        bundled_base(weights)


def test_a_part_that_was_never_packaged_is_named(weights: Path) -> None:
    manifest = json.loads((weights / MANIFEST).read_text())
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if not name.startswith("base/")}
    (weights / MANIFEST).write_text(json.dumps(manifest))
    for file in sorted((weights / "base").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    with pytest.raises(CorruptArtifact, match="lists no file of base"):
        bundled_base(weights)
