"""Implements BaseModels: finds a base (bundled, in a folder, on a hub), examines it, and keeps one loaded.

Does not know what is inside; ``base_files`` checks the files, a family loads them.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packshot.diffusion.base_files import (
    INDEX,
    READ_SUFFIXES,
    VARIANTS,
    BaseFiles,
    digest_files,
    examine,
    prediction_type,
)
from packshot.diffusion.families import FAMILIES, FamilyEntry
from packshot.digests import FileDigests
from packshot.domain.errors import BaseModelRefused, CorruptArtifact, InvalidInput
from packshot.domain.models import EMBEDDED_BASE, BaseModelRef
from packshot.domain.training_choices import MixedPrecision

if TYPE_CHECKING:
    import torch

    from packshot.diffusion.protocols import Family


class DiffusersBaseModels:
    """Base models in the diffusers layout. One stays loaded, on ``device`` (auto, cpu, cuda, cuda:1, mps).

    ``embedded`` finds the bundled base and checks it; ``digests`` remembers what unchanged files hash to.
    """

    def __init__(self, *, embedded: Callable[[], Path], digests: FileDigests, device: str = "auto") -> None:
        self._embedded = embedded
        self._digests = digests
        self._device = device
        self._loaded: tuple[tuple[str, MixedPrecision], Family] | None = None
        self._in_use = threading.RLock()
        self._borrower: int | None = None

    def describe(self, source: str, revision: str = "") -> BaseModelRef:
        """``embedded``, a folder or a hub id as a new record; nothing is loaded.

        A folder is recorded by its absolute path, a hub model with the commit that was found.

        Raises:
            BaseModelRefused: not found, a component missing, the family unknown, or weights pickled.
            CorruptArtifact: the bundled base is damaged.
            InvalidInput: a revision of something that no hub keeps.
        """
        folder, found_revision = self._locate(source, revision)
        if revision and not found_revision:
            raise InvalidInput(f"the base {source} lies in a folder, which has no revision {revision!r}; leave it out")
        files = self._examine(source, folder)
        return BaseModelRef(
            id=f"base_{uuid.uuid4().hex}",
            source=source if source == EMBEDDED_BASE or found_revision else str(files.folder),
            revision=found_revision,
            digest=files.digest,
            family=files.family.name,
            resolution=files.resolution,
            registered_at=datetime.now(UTC),
        )

    def prediction_type(self, base: BaseModelRef) -> str | None:
        """What ``base`` predicts, such as epsilon or v_prediction; None where its recorded files are not at hand.

        Nothing is loaded or fetched.
        """
        try:
            folder = _cached(base) if base.revision else self._locate(base.source, "")[0]
            unchanged = digest_files(folder, FAMILIES[base.family], self._digests) == base.digest
            return prediction_type(folder, base.source) if unchanged else None
        except (BaseModelRefused, CorruptArtifact, OSError, KeyError):
            return None

    @contextmanager
    def borrow(self, base: BaseModelRef, precision: MixedPrecision = MixedPrecision.NO) -> "Iterator[Family]":
        """The loaded base, for this thread alone while the context lasts. Leave it as it was.

        Its passes compute with ``precision``, or as those of a context around this one, which holds the same base.

        Raises:
            BaseModelRefused: it is gone, or cannot be loaded.
            CorruptArtifact: its files are no longer those that were recorded.
        """
        with self._in_use:
            loaded = self._held(base, precision)
            before, self._borrower = self._borrower, threading.get_ident()
            try:
                yield loaded
            finally:
                self._borrower = before

    @property
    def borrowed_here(self) -> bool:
        """Whether this thread has borrowed a base."""
        return self._borrower == threading.get_ident()

    def folder_of(self, base: BaseModelRef) -> Path:
        """The folder that holds the base's files.

        Raises:
            BaseModelRefused: it is gone.
        """
        return self._locate(base.source, base.revision)[0]

    def _held(self, base: BaseModelRef, precision: MixedPrecision) -> "Family":
        """The base that is loaded, where it will do, or else ``base`` in its place."""
        from packshot.diffusion.floats import resolved

        wanted = resolved(precision, self._torch_device())
        if self._loaded:
            (digest, floats), loaded = self._loaded
            if digest == base.digest and (floats is wanted or self.borrowed_here):
                return loaded
        self._loaded = None
        self._loaded = (base.digest, wanted), self._load(base, wanted)
        return self._loaded[1]

    def _load(self, base: BaseModelRef, precision: MixedPrecision) -> "Family":
        folder, _ = self._locate(base.source, base.revision)
        entry = FAMILIES.get(base.family)
        if entry is None:
            raise BaseModelRefused(f"the base {base.source} is of the unknown family {base.family!r}; upgrade Packshot")
        if not (folder / INDEX).is_file():
            raise BaseModelRefused(f"the base {base.source} is gone: {folder / INDEX} does not exist; put it back")
        digest = digest_files(folder, entry, self._digests)
        if digest != base.digest:
            raise CorruptArtifact(
                f"the files of the base {base.source} have the digest {digest[:12]}, recorded was {base.digest[:12]}; "
                "put the recorded files back, or register the changed base anew and retrain"
            )
        self._examine(base.source, folder)
        return self._from(entry, folder, base.source, precision)

    def load_beside(self, folder: Path) -> "tuple[str, Family]":
        """A pipeline that is no base, with its family's name, for the caller alone.

        Raises:
            BaseModelRefused: it is incomplete, of no known family, pickled, or cannot be loaded.
        """
        files = examine(folder, str(folder), self._digests, refuse_pickles=True)
        return files.family.name, self._from(files.family, folder, str(folder), MixedPrecision.NO)

    def _from(self, entry: FamilyEntry, folder: Path, source: str, precision: MixedPrecision) -> "Family":
        from safetensors import SafetensorError

        try:
            return entry.load(folder, self._torch_device(), precision)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise BaseModelRefused(f"the base {source} cannot be loaded: {error}") from error

    def _examine(self, source: str, folder: Path) -> BaseFiles:
        own = source == EMBEDDED_BASE or Path(source).expanduser().is_dir()
        return examine(folder, source, self._digests, refuse_pickles=own)

    def _locate(self, source: str, revision: str) -> tuple[Path, str]:
        """The folder that holds the base, and its commit where a hub has it."""
        if source == EMBEDDED_BASE:
            return self._embedded(), ""
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


def _cached(base: BaseModelRef) -> Path:
    """The folder into which a hub's base was fetched."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(base.source, INDEX, revision=base.revision)
    if not isinstance(index, str):
        raise BaseModelRefused(
            f"{base.source} at {base.revision} is not in the cache; fetch it with: packshot base add"
        )
    return Path(index).parent


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
