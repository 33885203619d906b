"""The bundled weights: found, and checked against the manifest that was packaged with them. Knows no model library.

The manifest guards against damage and half-done updates, not against somebody who can write to the package.
"""

import json
from pathlib import Path

from packshot.digests import sha256_of
from packshot.domain.errors import BaseModelRefused, CorruptArtifact, JudgeUnusable
from packshot.embedded import WEIGHTS_FOLDER

MANIFEST = "manifest.json"
BASE, EMBEDDER, CLIP = PARTS = "base", "judge/embedder", "judge/clip"

Measures = dict[str, dict[str, str | int]]


def bundled_base(weights: Path = WEIGHTS_FOLDER) -> Path:
    """The folder of the bundled base, its files checked.

    Raises:
        BaseModelRefused: there is none.
        CorruptArtifact: a file of it is missing, altered, or not of the package.
    """
    if not (weights / MANIFEST).is_file():
        raise BaseModelRefused(
            f"this copy of Packshot has no bundled base ({weights} holds no {MANIFEST}): give a diffusers folder or a "
            "hub id with --base, or make the bundle with recipes/embedded"
        )
    check_bundle(weights, BASE)
    return weights / BASE


def bundled_judge(part: str, weights: Path = WEIGHTS_FOLDER) -> Path:
    """The folder of a bundled model that judges, ``EMBEDDER`` or ``CLIP``, its files checked.

    Raises:
        JudgeUnusable: there is none.
        CorruptArtifact: a file of it is missing, altered, or not of the package.
    """
    if not (weights / MANIFEST).is_file():
        raise JudgeUnusable(
            f"this copy of Packshot has no bundled judge ({weights} holds no {MANIFEST}): set PACKSHOT_JUDGE_EMBEDDER "
            "and PACKSHOT_JUDGE_CLIP to folders or hub ids, or make the bundle with recipes/embedded"
        )
    check_bundle(weights, part)
    return weights / part


def bundled_base_version(weights: Path = WEIGHTS_FOLDER) -> str | None:
    """What tells bundled bases apart: the beginning of the denoiser's sha256 in the manifest. None where no base is bundled.

    Raises:
        CorruptArtifact: the manifest is damaged.
    """
    if not (weights / MANIFEST).is_file():
        return None
    denoiser = _read_manifest(weights).get(f"{BASE}/unet/diffusion_pytorch_model.safetensors")
    return str(denoiser["sha256"])[:12] if denoiser else None


def check_bundle(weights: Path, part: str = "") -> None:
    """Compare the files of ``part``, or of all parts, with the manifest.

    Raises:
        CorruptArtifact: names the first file that is missing, altered, or not of the package.
    """
    recorded = {name: entry for name, entry in _read_manifest(weights).items() if Path(name).is_relative_to(part)}
    found = measure(weights, part)
    for name in sorted({*recorded, *found}):
        if recorded.get(name) != found.get(name):
            state = "is missing" if name not in found else "is altered" if name in recorded else "is not of the package"
            raise CorruptArtifact(f"the bundled file {weights / name} {state}; reinstall Packshot to mend it")
    if not recorded:
        raise CorruptArtifact(f"{weights / MANIFEST} lists no file of {part or 'the bundle'}; reinstall Packshot")


def measure(weights: Path, part: str = "") -> Measures:
    """sha256 and size of every file in ``weights / part`` but the manifest and hidden ones, by name within ``weights``."""
    files = {path.relative_to(weights): path for path in sorted((weights / part).rglob("*")) if path.is_file()}
    return {
        name.as_posix(): {"sha256": sha256_of(path), "num_bytes": path.stat().st_size}
        for name, path in files.items()
        if name.as_posix() != MANIFEST and not any(piece.startswith(".") for piece in name.parts)
    }


def write_manifest(weights: Path) -> None:
    """Record what lies in ``weights``."""
    (weights / MANIFEST).write_text(json.dumps({"files": measure(weights)}, indent=1) + "\n")


def _read_manifest(weights: Path) -> Measures:
    try:
        files = json.loads((weights / MANIFEST).read_bytes())["files"]
        return {str(name): dict(entry) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifact(f"{weights / MANIFEST} is damaged ({error!r}); reinstall Packshot to mend it") from error
