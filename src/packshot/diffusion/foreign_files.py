"""Files that others wrote: which lie at a path, whether they may be read, and their headers. Knows no layout's names.

Only safetensors and JSON are read. A pickle can run code when it is loaded, so none ever is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from packshot.diffusion.base_files import INDEX, PICKLE_SUFFIXES, READ_SUFFIXES
from packshot.diffusion.safe_headers import read_header
from packshot.diffusion.weights import HEADER_KEY, WeightsHeader, parse_header
from packshot.digests import sha256_of
from packshot.domain.errors import ImportRefused
from packshot.domain.models import SourceFile
from packshot.ports import ForeignFile, ForeignFiles

OWN_HEADER = "packshot_export"  # the key of our own header in the metadata of files in other layouts
OWN_HEADER_FILE = "packshot.json"  # our own header in the folder of a pipeline

_SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """One file that was read."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, Tensor]


def find_files(paths: Sequence[Path]) -> ForeignFiles:
    """What lies at ``paths``: safetensors files, or one folder with files or with a pipeline. Reads headers alone.

    Raises:
        ImportRefused: nothing there, a pickle, a damaged file, or a mixture.
    """
    if not paths:
        raise ImportRefused("nothing to import was named; give safetensors files, or a folder")
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise ImportRefused(f"{missing[0]} does not exist; give safetensors files, or a folder")
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise ImportRefused(f"the folder {folders[0]} was named among {len(paths)} paths; import one folder, or files")
    if folders and (folders[0] / INDEX).is_file():
        files = _pipeline_files(folders[0])
    else:
        names = [each for folder in folders for each in sorted(folder.iterdir())] or list(paths)
        _check_suffixes(names, in_folder=bool(folders))
        files = tuple(_described(each, each.name) for each in names if each.suffix == _SUFFIX)
    if not files:
        raise ImportRefused(
            f"{paths[0]} holds no {_SUFFIX} file and no {INDEX} of a pipeline; name the files themselves"
        )
    digests = {header.base_digest for header in map(own_header, files) if header}
    if len(digests) > 1:
        raise ImportRefused("the files were exported from fine-tunes of different bases; import them one by one")
    return ForeignFiles(
        files=files,
        pipeline=folders[0] if folders and (folders[0] / INDEX).is_file() else None,
        base_digest="".join(digests),
    )


def read_tensors(path: Path) -> Tensors:
    """All of a file.

    Raises:
        ImportRefused: damaged, or no safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            return Tensors(
                path=path,
                metadata=file.metadata() or {},
                tensors={name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 it is no mapping
            )
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def own_header(file: ForeignFile) -> WeightsHeader | None:
    """The header that Packshot wrote into the file, as it is stored or in another layout; None in others' files.

    Raises:
        ImportRefused: it is damaged.
    """
    text = file.headers.get(OWN_HEADER) or file.headers.get(HEADER_KEY)
    if text is None:
        return None
    try:
        return parse_header(text)
    except (KeyError, TypeError, ValueError) as error:
        raise ImportRefused(f"the header of {file.path} is damaged ({error}); export the fine-tune anew") from error


def _pipeline_files(folder: Path) -> tuple[ForeignFile, ...]:
    """Everything that loading reads. Our own header stands in a file of its own."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    _check_suffixes(paths, in_folder=True)
    files = [_described(path, path.relative_to(folder).as_posix()) for path in paths if path.suffix in READ_SUFFIXES]
    return tuple(files)


def _check_suffixes(paths: Sequence[Path], *, in_folder: bool) -> None:
    for path in paths:
        if path.suffix.lower() in PICKLE_SUFFIXES:
            raise ImportRefused(
                f"{path} is a pickle, which can run code when it is loaded; convert it to safetensors where you trust "
                "it, or name the safetensors files beside it"
            )
        if not in_folder and path.suffix != _SUFFIX:
            raise ImportRefused(f"{path} is no {_SUFFIX} file; give safetensors files, or a folder")


def _described(path: Path, name: str) -> ForeignFile:
    try:
        record = SourceFile(name=name, sha256=sha256_of(path), num_bytes=path.stat().st_size)
        if path.suffix == _SUFFIX:
            read_header(path)
            with safe_open(path, "pt") as file:
                headers = dict(file.metadata() or {})
        else:
            headers = {OWN_HEADER: path.read_text("utf-8")} if path.name == OWN_HEADER_FILE else {}
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(path, error) from error
    return ForeignFile(path=path, record=record, headers=headers)


def _damaged(path: Path, error: Exception) -> ImportRefused:
    return ImportRefused(f"{path} cannot be read, or is damaged ({error}); copy it anew")


def json_object(text: str, what: str) -> Mapping[str, object]:
    """The object in ``text``; ``what`` names it in messages.

    Raises:
        ImportRefused: it holds none.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ImportRefused(f"{what} is no JSON ({error}); write the file anew") from error
    if not isinstance(values, dict):
        raise ImportRefused(f"{what} holds no object; write the file anew")
    return values
