"""The files of a base model in the diffusers layout: which are read, whether they are safe, their digest.

Knows no tensor library: a base can be examined without loading it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from packshot.diffusion.families import FAMILIES, FamilyEntry, family_of_pipeline
from packshot.diffusion.safe_headers import read_header
from packshot.digests import FileDigests
from packshot.domain.errors import BaseModelRefused

INDEX = "model_index.json"
READ_SUFFIXES = (".json", ".txt", ".safetensors")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# Copies of the weights in another precision, which hubs keep beside those that are read.
VARIANTS = (".fp16.", ".fp16-", ".bf16.", ".bf16-", ".non_ema.")


@dataclass(frozen=True, kw_only=True)
class BaseFiles:
    """A folder that was examined and may be loaded."""

    folder: Path
    family: FamilyEntry
    resolution: int
    digest: str


def examine(folder: Path, source: str, digests: FileDigests, *, refuse_pickles: bool) -> BaseFiles:
    """Check that ``folder`` holds a base that can be loaded safely. ``source`` names it in messages.

    ``refuse_pickles`` is for a user's own folder, where a pickle is a mistake or worse; a hub's cache may hold some
    that another program fetched, and they are never read.

    Raises:
        BaseModelRefused: no pipeline, an unknown family, a component missing or damaged, pickled weights.
    """
    index = _read_json(folder / INDEX, source)
    family = family_of_pipeline(str(index.get("_class_name")))
    if family is None:
        raise BaseModelRefused(
            f"the base {source} is a {index.get('_class_name')!r}, of no known family; known are "
            + ", ".join(f"{entry.name} ({', '.join(entry.pipelines)})" for entry in FAMILIES.values())
        )
    if refuse_pickles:
        _refuse_pickles(folder, source)
    for component, class_name in family.components.items():
        _check_component(folder, component, class_name, index, source)
    for component in family.weights:
        _check_weights(folder / component, component, source)
    return BaseFiles(
        folder=folder,
        family=family,
        resolution=_native_resolution(folder, family, source),
        digest=digest_files(folder, family, digests),
    )


def digest_files(folder: Path, family: FamilyEntry, digests: FileDigests) -> str:
    """sha256 over the sorted list of (file name, file sha256) of everything that loading reads."""
    names = [INDEX]
    for component in family.components:
        for path in (folder / component).rglob("*"):
            if path.suffix in READ_SUFFIXES and path.is_file() and not any(v in path.name for v in VARIANTS):
                names.append(path.relative_to(folder).as_posix())
    entries = [(name, digests.sha256(folder / name)) for name in sorted(names)]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def prediction_type(folder: Path, source: str) -> str:
    """What the base in ``folder`` predicts: epsilon, as diffusers takes it, where its scheduler does not say."""
    return str(_read_json(folder / "scheduler" / "scheduler_config.json", source).get("prediction_type", "epsilon"))


def _read_json(path: Path, source: str) -> dict[str, object]:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BaseModelRefused(
            f"the base {source} has no {path.parent.name}/{path.name}; give a folder in the diffusers layout, "
            "as save_pretrained of a pipeline writes it"
        ) from None
    except (OSError, ValueError) as error:
        raise BaseModelRefused(f"the base {source} has a damaged {path.name} ({error}); copy it anew") from error
    if not isinstance(values, dict):
        raise BaseModelRefused(f"the base {source} has a {path.name} that holds no object; copy it anew")
    return values


def _refuse_pickles(folder: Path, source: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLE_SUFFIXES:
            raise BaseModelRefused(
                f"the base {source} contains {path.relative_to(folder).as_posix()}, a pickle, which can run code when "
                "it is loaded; save the model as safetensors (save_pretrained(..., safe_serialization=True)) and "
                "remove the file"
            )


def _check_component(folder: Path, component: str, class_name: str, index: dict[str, object], source: str) -> None:
    kind = component.partition("_")[0]
    config = f"{kind}_config.json" if kind in ("tokenizer", "scheduler") else "config.json"
    if not (folder / component / config).is_file() or index.get(component) in (None, [None, None]):
        raise BaseModelRefused(
            f"the base {source} has no {component}: {component}/{config} or its line in {INDEX} is missing; "
            "give the complete folder of the pipeline"
        )
    entry = index[component]
    named = str(entry[-1]) if isinstance(entry, list) and entry else ""
    if class_name and named.removesuffix("Fast") != class_name:
        raise BaseModelRefused(f"the base {source} has a {component} of the class {named!r}; it must be {class_name}")


def _check_weights(folder: Path, component: str, source: str) -> None:
    files = [path for path in folder.glob("*.safetensors") if not any(v in path.name for v in VARIANTS)]
    if not files:
        raise BaseModelRefused(
            f"the base {source} has no safetensors weights in {component}; save the model with "
            "safe_serialization=True, or name a revision that has them"
        )
    for path in files:
        if not _is_whole(path):
            raise BaseModelRefused(f"the base {source} has damaged weights, {component}/{path.name}; copy them anew")


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    try:
        header = read_header(path)
        ends = [entry["data_offsets"][1] for name, entry in header.tensors.items()]
    except (ValueError, TypeError, KeyError):
        return False
    return path.stat().st_size == header.num_bytes + max(ends, default=0)


def _native_resolution(folder: Path, family: FamilyEntry, source: str) -> int:
    size = family.sample_size or _read_json(folder / family.denoiser / "config.json", source).get("sample_size")
    blocks = _read_json(folder / "vae" / "config.json", source).get("block_out_channels")
    edge = size[0] if isinstance(size, list) and size else size
    if not isinstance(edge, int) or not isinstance(blocks, list):
        raise BaseModelRefused(
            f"the base {source} does not say its native size: sample_size in {family.denoiser}/config.json is "
            f"{size!r} and block_out_channels in vae/config.json {blocks!r}; write them there"
        )
    return edge * 2 ** (len(blocks) - 1)
