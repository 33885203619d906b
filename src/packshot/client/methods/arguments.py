"""What several methods take: files, and values of variables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from packshot.domain.errors import InvalidInput
from packshot.domain.variables import Value

NO_VARIABLES: Mapping[str, Value] = MappingProxyType({})


def read_files(paths: Sequence[Path | str]) -> list[tuple[str, tuple[str, bytes]]]:
    """The files at ``paths``, and those in folders, as parts of a form. Raises InvalidInput where one cannot be read."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    try:
        return [("files", (each.name, each.read_bytes())) for each in found if not each.name.startswith(".")]
    except OSError as error:
        raise InvalidInput(f"cannot read {error.filename} ({error.strerror})") from error
