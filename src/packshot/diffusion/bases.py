"""Implements BaseModels: finds a base (bundled, in a folder, on a hub), examines it, and keeps one loaded.

Does not know what is inside; ``base_files`` checks the files, a family loads them.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packshot.diffusion.base_files import INDEX, READ_SUFFIXES, VARIANTS, BaseFiles, digest_files, examine
from packshot.diffusion.families import FAMILIES
from packshot.domain.errors import BaseModelRefused, CorruptArtifact
from packshot.domain.models import EMBEDDED_BASE, BaseModelRef

if TYPE_CHECKING:
    import torch

    from packshot.diffusion.protocols import Family


class DiffusersBaseModels:
    """Base models in the diffusers layout. One stays loaded, on ``device`` (auto, cpu, cuda, cuda:1, mps)."""

    def __init__(self, *, embedded_folder: Path, device: str = "auto") -> None:
        self._embedded_folder = embedded_folder
        self._device = device
        self._loaded: tuple[str, Family] | None = None
        self._in_use = threading.RLock()

    def describe(self, source: str, revision: str = "") -> BaseModelRef:
        """``embedded``, a folder or a hub id as a new record; nothing is loaded.

        A folder is recorded by its absolute path, a hub model with the commit that was found.

        Raises:
            BaseModelRefused: not found, a component missing, the family unknown, or weights pickled.
        """
        files, found_revision = self._find(source, revision)
        return BaseModelRef(
            id=f"base_{uuid.uuid4().hex}",
            source=source if source == EMBEDDED_BASE or found_revision else str(files.folder),
            revision=found_revision,
            digest=files.digest,
            family=files.family.name,
            resolution=files.resolution,
            registered_at=datetime.now(UTC),
        )

    @contextmanager
    def borrow(self, base: BaseModelRef) -> "Iterator[Family]":
        """The loaded base, for this thread alone while the context lasts. Leave it as it was.

        Raises:
            BaseModelRefused: it is gone, or cannot be loaded.
            CorruptArtifact: its files are no longer those that were recorded.
        """
        with self._in_use:
            if self._loaded is None or self._loaded[0] != base.digest:
                self._loaded = None
                self._loaded = base.digest, self._load(base)
            yield self._loaded[1]

    def _load(self, base: BaseModelRef) -> "Family":
        from safetensors import SafetensorError

        folder, _ = self._locate(base.source, base.revision)
        entry = FAMILIES.get(base.family)
        if entry is None:
            raise BaseModelRefused(f"the base {base.source} is of the unknown family {base.family!r}; upgrade Packshot")
        if not (folder / INDEX).is_file():
            raise BaseModelRefused(f"the base {base.source} is gone: {folder / INDEX} does not exist; put it back")
        digest = digest_files(folder, entry)
        if digest != base.digest:
            raise CorruptArtifact(
                f"the files of the base {base.source} have the digest {digest[:12]}, recorded was {base.digest[:12]}; "
                "put the recorded files back, or register the changed base anew and retrain"
            )
        self._examine(base.source, folder)
        try:
            return entry.load(folder, self._torch_device())
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise BaseModelRefused(f"the base {base.source} cannot be loaded: {error}") from error

    def _find(self, source: str, revision: str) -> tuple[BaseFiles, str]:
        folder, found_revision = self._locate(source, revision)
        return self._examine(source, folder), found_revision

    def _examine(self, source: str, folder: Path) -> BaseFiles:
        own = source == EMBEDDED_BASE or Path(source).expanduser().is_dir()
        return examine(folder, source, refuse_pickles=own)

    def _locate(self, source: str, revision: str) -> tuple[Path, str]:
        """The folder that holds the base, and its commit where a hub has it."""
        if source == EMBEDDED_BASE:
            return self._embedded_folder, ""
        folder = Path(source).expanduser()
        if folder.is_dir():
            return folder.resolve(), ""
        if folder.exists() or source.startswith((".", "/", "~")) or source.count("/") != 1 or "\\" in source:
            raise BaseModelRefused(
                f"the base {source!r} is no folder; give {EMBEDDED_BASE!r}, a folder in the diffusers layout, or a "
                "hub id such as 'owner/name'"
            )
        return _fetch(source, revision)

    def _torch_device(self) -> "torch.device":
        import torch

        if self._device != "auto":
            return torch.device(self._device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _fetch(source: str, revision: str) -> tuple[Path, str]:
    """Fetch what loading reads, and nothing else, from the hub; what is cached is not fetched again."""
    from huggingface_hub import snapshot_download

    folders = sorted({folder for entry in FAMILIES.values() for folder in entry.components})
    try:
        folder = Path(
            snapshot_download(
                source,
                revision=revision or None,
                allow_patterns=[INDEX, *(f"{name}/*{suffix}" for name in folders for suffix in READ_SUFFIXES)],
                ignore_patterns=[f"*{variant}*" for variant in VARIANTS],
            )
        )
    except (OSError, ValueError, RuntimeError) as error:  # also what the hub's client and its HTTP library derive
        raise BaseModelRefused(
            f"the base {source!r} could not be fetched from the hub ({type(error).__name__}: {error}); check the name, "
            "the network and HF_TOKEN, or give a local folder"
        ) from error
    return folder, folder.name
