"""Implements Importer: decides what foreign files are, and lets the ``foreign_*`` modules read them.

What comes out is put into the base once before it is given away, so that what is imported can be served.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.foreign_adapters import is_adapter, is_kohya, read_adapters
from packshot.diffusion.foreign_files import OWN_HEADER, Tensors, find_files, own_header, read_tensors
from packshot.diffusion.foreign_pipelines import added_token, check_surroundings, learned_parameters
from packshot.diffusion.foreign_tokens import Embeddings, is_nameless, read_embeddings, wording
from packshot.diffusion.interop import DOWN, Layout
from packshot.diffusion.methods import applied
from packshot.diffusion.protocols import TOKEN_PREFIX, Family
from packshot.diffusion.weights import HEADER_KEY, WeightsHeader, read_weights, write_weights
from packshot.domain.errors import CorruptArtifact, ImportRefused, IncompatibleFineTune
from packshot.domain.models import BaseModelRef, ExportFormat
from packshot.domain.training_choices import Method
from packshot.ports import ForeignFiles, ImportedWeights

_FAMILY_SIGNS = (
    ("stable-diffusion-xl", "stable-diffusion-xl"),
    ("sdxl", "stable-diffusion-xl"),
    ("stable-diffusion-3", "stable-diffusion-3"),
    ("sd3", "stable-diffusion-3"),
    ("stable-diffusion-v", "stable-diffusion"),
    ("sd_v", "stable-diffusion"),
    ("flux", "flux"),
)


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What files hold: learned tensors by our names, embeddings, and which methods it can be called by."""

    layout: ExportFormat
    tensors: Mapping[str, Tensor]
    embeddings: Embeddings | None
    methods: tuple[Method, ...]


class DiffusersImporter:
    """Imports fine-tunes onto bases in the diffusers layout."""

    def __init__(self, bases: DiffusersBaseModels) -> None:
        self._bases = bases

    def find(self, paths: Sequence[Path]) -> ForeignFiles:
        """The files at ``paths`` with their headers.

        Raises:
            ImportRefused: nothing there, a pickle, a damaged file, or files that do not belong together.
        """
        return find_files(paths)

    def convert(
        self, base: BaseModelRef, found: ForeignFiles, *, class_noun: str, trigger: str, method: Method | None
    ) -> ImportedWeights:
        """What was found as a fine-tune of ``base``; an empty ``trigger`` and no ``method`` are taken from the files.

        Raises:
            ImportRefused: a layout that is not read, another method than asked for, or no trigger phrase.
            IncompatibleFineTune: names, shapes or headers that do not fit the base.
            BaseModelRefused, CorruptArtifact: the base, or the pipeline, cannot be loaded.
        """
        _check_headers(base, found)
        if any(HEADER_KEY in file.headers for file in found.files):
            header, tensors = _stored(found)
            read = _Read(layout=ExportFormat.SAFETENSORS, tensors=tensors, embeddings=None, methods=(header.method,))
            _chosen(read, header, method)
            header, tensors = _reworded(header, trigger), dict(tensors)
            with self._bases.borrow(base) as loaded, applied(loaded, header, tensors):
                return _imported(read, header, tensors)
        own = next((header for header in map(own_header, found.files) if header), None)
        with self._bases.borrow(base) as loaded:
            read = self._pipeline(base, loaded, found.pipeline) if found.pipeline else _read(base, loaded, found, own)
            said = wording(read.embeddings, trigger=trigger, told=_told_phrase(found, own), digest=_digests(found))
            rows = read.embeddings.rows if read.embeddings else {}
            tensors = {**read.tensors, **{TOKEN_PREFIX + encoder: each for encoder, each in rows.items()}}
            rank = max((len(each) for name, each in tensors.items() if name.endswith(DOWN)), default=1)
            fresh = WeightsHeader(
                method=_chosen(read, own, method),
                family=base.family,
                base_digest=base.digest,
                token=said.token,
                trained_phrase=said.phrase,
                class_noun=class_noun,
                rank=rank,
                alpha=rank,
                config="{}",
            )
            kept = (
                {"class_noun": own.class_noun, "rank": own.rank, "alpha": own.alpha, "config": own.config}
                if own
                else {}
            )
            header = dataclasses.replace(fresh, **kept)
            with applied(loaded, header, tensors):
                return _imported(read, header, tensors)

    def _pipeline(self, base: BaseModelRef, loaded: Family, folder: Path) -> _Read:
        family, theirs = self._bases.load_beside(folder)
        if family != base.family:
            raise _other_family(f"the pipeline {folder}", family, base)
        check_surroundings(self._bases.folder_of(base), folder)
        return _Read(
            layout=ExportFormat.DIFFUSERS,
            tensors=learned_parameters(loaded, theirs, folder),
            embeddings=added_token(loaded, theirs, folder),
            methods=(Method.FULL,),
        )


def _read(base: BaseModelRef, loaded: Family, found: ForeignFiles, own: WeightsHeader | None) -> _Read:
    """Adapters and embeddings, each in files of their own."""
    adapters: dict[str, Tensor] = {}
    embeddings: list[Tensors] = []
    layouts: list[ExportFormat] = []
    for file in found.files:
        content = read_tensors(file.path)
        if any(is_adapter(name) for name in content.tensors):
            layout = Layout(base=loaded, family=base.family)
            more = read_adapters(layout, content, exported_rank=own.rank if own else 0)
            twice = adapters.keys() & more.keys()
            if twice:
                raise ImportRefused(f"{file.path.name} has a second adapter for {min(twice)!r}; import one of them")
            adapters |= more
            kohya = is_kohya(content.tensors)
        elif all(map(is_nameless, content.tensors)) or len(content.tensors) == 1:
            embeddings.append(content)
            kohya = all(map(is_nameless, content.tensors))
        else:
            raise ImportRefused(
                f"{file.path.name} holds {min(content.tensors)!r}, which is neither a low-rank adapter nor an embedding; a "
                "model of full weights is imported as its folder in the diffusers layout"
            )
        layouts.append(ExportFormat.KOHYA if kohya else ExportFormat.DIFFUSERS)
    tokens = read_embeddings(loaded, base.family, embeddings) if embeddings else None
    with_both, without = (Method.PIVOTAL, Method.LORA), (Method.LORA,)
    return _Read(
        layout=next(iter(layouts)),
        tensors=adapters,
        embeddings=tokens,
        methods=(Method.TEXTUAL_INVERSION,) if not adapters else with_both if tokens else without,
    )


def _stored(found: ForeignFiles) -> tuple[WeightsHeader, dict[str, Tensor]]:
    if len(found.files) != 1:
        raise ImportRefused("a fine-tune as Packshot stores it is one file; import it alone")
    path = found.files[0].path
    try:
        return read_weights(path.read_bytes())
    except (OSError, CorruptArtifact) as error:
        raise ImportRefused(f"{path} cannot be read, or is damaged ({error})") from error


def _reworded(header: WeightsHeader, trigger: str) -> WeightsHeader:
    if not trigger or trigger == header.trained_phrase:
        return header
    if header.token and header.token not in trigger:
        raise ImportRefused(
            f"the fine-tune was trained with the phrase {header.trained_phrase!r}, and {trigger!r} lacks its token; leave "
            "--trigger out"
        )
    return dataclasses.replace(header, trained_phrase=trigger)


def _imported(read: _Read, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> ImportedWeights:
    return ImportedWeights(
        layout=read.layout,
        method=header.method,
        token=header.token,
        trained_phrase=header.trained_phrase,
        weights=write_weights(header, tensors),
    )


def _chosen(read: _Read, own: WeightsHeader | None, method: Method | None) -> Method:
    if method is not None and method not in read.methods:
        raise ImportRefused(
            f"--method {method} was asked for, and the files hold {' or '.join(read.methods)}; leave --method out"
        )
    told = own.method if own and own.method in read.methods else read.methods[0]
    return method or told


def _told_phrase(found: ForeignFiles, own: WeightsHeader | None) -> str:
    if own:
        return own.trained_phrase
    told = (file.headers.get("modelspec.trigger_phrase", "").strip() for file in found.files)
    return next((phrase for phrase in told if phrase), "")


def _digests(found: ForeignFiles) -> str:
    return " ".join(sorted(file.record.sha256 for file in found.files))


def _check_headers(base: BaseModelRef, found: ForeignFiles) -> None:
    """Refuse what says itself that it was made for something else."""
    if found.base_digest and found.base_digest != base.digest:
        raise IncompatibleFineTune(
            f"the files were exported from a fine-tune of the base with the digest {found.base_digest[:12]}, and "
            f"{base.source} has {base.digest[:12]}; register that base (packshot base add) and name it with --base"
        )
    for file in found.files:
        if OWN_HEADER in file.headers or HEADER_KEY in file.headers:
            continue
        for key in ("modelspec.architecture", "ss_base_model_version"):
            told = file.headers.get(key, "").lower()
            family = next((family for sign, family in _FAMILY_SIGNS if told.startswith(sign)), base.family)
            if family != base.family:
                raise _other_family(f"{file.record.name} says {key} {told!r}, which", family, base)


def _other_family(what: str, family: str, base: BaseModelRef) -> IncompatibleFineTune:
    return IncompatibleFineTune(
        f"{what} is of the family {family}, and the base {base.source} of {base.family}; name a base of that family with "
        "--base"
    )
