"""Embeddings that diffusers and A1111 read, back as rows of our token; and the words that an import answers to.

A file of diffusers names the word that its embedding stands for; in the other layout that is the file's name.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from packshot.diffusion.foreign_files import Tensors
from packshot.diffusion.interop import ENCODERS
from packshot.diffusion.protocols import Family
from packshot.domain.errors import ImportRefused, IncompatibleFineTune

_NAMELESS = {name for names in ENCODERS.values() for name in names}
_WORD = re.compile(r"<[^<>\s]+>")
_OWN_TOKEN = re.compile(r"<packshot-[0-9a-f]{12}>")
_MAX_PHRASE = 200


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Rows by text encoder, the word that the files say they stand for (or ""), and the files' name without ending."""

    rows: dict[str, Tensor]
    word: str
    file_stem: str


@dataclass(frozen=True, kw_only=True)
class Wording:
    """What an import answers to; ``token`` is empty where the base's own words say it all."""

    token: str
    phrase: str


def is_nameless(name: str) -> bool:
    """Whether a tensor of this name is an embedding whose word is the file's name."""
    return name in _NAMELESS


def read_embeddings(base: Family, family: str, files: Sequence[Tensors]) -> Embeddings:
    """The embeddings in ``files``, one row per vector, for every text encoder of the base.

    Raises:
        ImportRefused: several words, or two embeddings for one encoder.
        IncompatibleFineTune: widths or encoders that the base does not have, or one without an embedding.
    """
    rows: dict[str, Tensor] = {}
    words: set[str] = set()
    for file in files:
        for name, tensor in file.tensors.items():
            encoder = _encoder(base, family, file, name, tensor)
            if encoder in rows:
                raise ImportRefused(f"{file.path.name} has a second embedding for {encoder}; import one of them")
            if not tensor.float().isfinite().all():
                raise ImportRefused(f"{file.path.name} holds numbers in {name!r} that are none (NaN or infinite)")
            rows[encoder] = tensor.float().reshape(-1, tensor.shape[-1])
            words |= set() if is_nameless(name) else {name}
    if len(words) > 1:
        raise ImportRefused(f"the embeddings stand for several words ({', '.join(sorted(words))}); import one")
    missing = set(base.text_encoders) - set(rows)
    if missing:
        raise IncompatibleFineTune(
            f"there is no embedding for {min(missing)}; name the files for all text encoders of the base "
            f"({', '.join(base.text_encoders)}), or import onto the base that they were made for, with --base"
        )
    return Embeddings(rows=rows, word="".join(words), file_stem=files[0].path.stem)


def _encoder(base: Family, family: str, file: Tensors, name: str, tensor: Tensor) -> str:
    widths = {each: _width(base, each) for each in base.text_encoders}
    told = dict(zip(ENCODERS[family], base.text_encoders, strict=True)).get(name)
    if told is None and not is_nameless(name):
        numbered = re.fullmatch(r"learned_embeds(_\d+)?", file.path.stem)
        fitting = [each for each, width in widths.items() if width == tensor.shape[-1]]
        told = f"text_encoder{numbered[1] or ''}" if numbered else fitting[0] if len(fitting) == 1 else None
    if told not in widths or tensor.dim() not in (1, 2) or tensor.shape[-1] != widths.get(told):
        raise IncompatibleFineTune(
            f"{file.path.name} has an embedding {name!r} of the shape {tuple(tensor.shape)}, and the text encoders of the "
            f"base are {', '.join(f'{each} ({width} wide)' for each, width in widths.items())}; import it onto the base "
            "that it was made for, with --base"
        )
    return told


def _width(base: Family, encoder: str) -> int:
    embedding = getattr(base.text_encoders[encoder], "get_input_embeddings")()  # noqa: B009 nn.Module does not know it
    return embedding.embedding_dim


def wording(embeddings: Embeddings | None, *, trigger: str, told: str, digest: str) -> Wording:
    """Token and phrase from what the user wrote (``trigger``), or else the files (``told``); ``digest`` is the files'.

    The word of an embedding becomes a token that no caller can spell and no other fine-tune has; one that we gave is
    kept.

    Raises:
        ImportRefused: nobody says what the import answers to, or an embedding has no word in it.
    """
    phrase = " ".join((trigger or told).split())
    if len(phrase) > _MAX_PHRASE or not phrase.isprintable():
        raise ImportRefused(f"the trigger phrase {phrase[:40]!r}… is too long, or has control characters; shorten it")
    if embeddings is None:
        return _plain_wording(phrase)
    phrase = phrase or embeddings.word
    spelled = _WORD.search(phrase)
    word = embeddings.word or (spelled[0] if spelled else embeddings.file_stem)
    standing = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    if not standing.search(phrase):
        raise ImportRefused(
            f"the embedding stands for the word {word!r}, and the trigger phrase is {phrase!r}; "
            f"name the product with that word: --trigger '{word} apple'"
        )
    token = word if _OWN_TOKEN.fullmatch(word) else f"<packshot-{hashlib.sha256(digest.encode()).hexdigest()[:12]}>"
    phrase = standing.sub(token, phrase)
    if any(found != token for found in _WORD.findall(phrase)):
        raise ImportRefused(
            f"the trigger phrase {phrase!r} has words in angle brackets beside the embedding's; leave them out"
        )
    return Wording(token=token, phrase=phrase)


def _plain_wording(phrase: str) -> Wording:
    if not phrase:
        raise ImportRefused(
            "the files do not say which words they were trained with; say it, for example: --trigger 'ohwx apple'"
        )
    found = _WORD.search(phrase)
    if found:
        raise ImportRefused(
            f"the trigger phrase {phrase!r} has the word {found[0]!r}, whose embedding is not among the files; name that "
            "file too, or write a phrase in the base's own words with --trigger"
        )
    return Wording(token="", phrase=phrase)
