"""A pipeline's folder with full weights, back as a full fine-tune: what differs from the base. Knows no file layout."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from packshot.diffusion.base_files import prediction_type
from packshot.diffusion.foreign_files import read_tensors
from packshot.diffusion.foreign_tokens import Embeddings
from packshot.diffusion.protocols import Family
from packshot.domain.errors import ImportRefused, IncompatibleFineTune


def check_surroundings(base_folder: Path, folder: Path) -> None:
    """Refuse a pipeline that differs from the base where a fine-tune cannot: in its autoencoder, and in what it predicts.

    Raises:
        IncompatibleFineTune: it does.
    """
    told, expected = (prediction_type(each, each.name) for each in (folder, base_folder))
    if told != expected:
        raise IncompatibleFineTune(
            f"the pipeline {folder} predicts {told}, and the base {expected}; import it onto the base that it was made "
            "from, with --base"
        )
    theirs, own = (_weights(each / "vae") for each in (folder, base_folder))
    for name in sorted(theirs.keys() | own.keys()):
        if name not in theirs or name not in own or not _equal(theirs[name], own[name]):
            raise IncompatibleFineTune(
                f"the pipeline {folder} has another autoencoder than the base ({name!r} differs), which no fine-tune can "
                "hold; import it onto the base that it was made from, with --base, or put that base's vae into the folder"
            )


def learned_parameters(base: Family, theirs: Family, folder: Path) -> dict[str, Tensor]:
    """The denoiser's parameters, and those of the text encoders that differ from the base's, by our names.

    Raises:
        IncompatibleFineTune: other names or shapes than the base's.
    """
    learned = _parameters(base.denoiser, theirs.denoiser, folder)
    changes = any(not torch.equal(each, base.denoiser.get_parameter(name)) for name, each in learned.items())
    found = {f"{base.prefix}.{name}": each for name, each in learned.items()}
    for encoder, module in base.text_encoders.items():
        of_encoder = _parameters(module, theirs.text_encoders[encoder], folder)
        if any(not torch.equal(each, module.get_parameter(name)) for name, each in of_encoder.items()):
            found |= {f"{encoder}.{name}": each for name, each in of_encoder.items()}
            changes = True
        table = _changed_table(base, theirs, encoder)
        found |= {f"{encoder}.{name}": each for name, each in table.items()}
        changes = changes or bool(table)
    if not changes and not any(_added(base, theirs, encoder) for encoder in base.text_encoders):
        raise ImportRefused(f"the pipeline {folder} is the base itself, weight by weight; import a fine-tune of it")
    return {name: each.detach().cpu() for name, each in found.items()}


def added_token(base: Family, theirs: Family, folder: Path) -> Embeddings | None:
    """The word that the pipeline's vocabularies have and the base's have not, with its embeddings; None without one.

    Raises:
        ImportRefused: several words.
        IncompatibleFineTune: a text encoder does not know the word.
    """
    added = {encoder: _added(base, theirs, encoder) for encoder in base.text_encoders}
    if not any(added.values()):
        return None
    rows: dict[str, Tensor] = {}
    words: set[str] = set()
    for encoder, ids in added.items():
        if not ids:
            raise IncompatibleFineTune(f"the tokenizer of {encoder} in {folder} lacks the word that the others have")
        word = min(ids, key=len)
        pieces = [word, *(f"{word}_{number}" for number in range(1, len(ids)))]
        words.add(word)
        if set(pieces) != ids.keys() or len(words) > 1:
            raise ImportRefused(
                f"the tokenizer of {encoder} in {folder} has the added words {', '.join(sorted(words | ids.keys()))}; a "
                "fine-tune has one, of one or more pieces"
            )
        rows[encoder] = _table(theirs.text_encoders[encoder]).weight.detach()[[ids[piece] for piece in pieces]].cpu()
    return Embeddings(rows=rows, word="".join(words), file_stem=folder.name)


def _parameters(own: nn.Module, theirs: nn.Module, folder: Path) -> dict[str, nn.Parameter]:
    """Theirs, without the vocabulary's table."""
    found, expected = (_without_table(each) for each in (theirs, own))
    for name in sorted(found.keys() | expected.keys()):
        shapes = [tuple(each[name].shape) if name in each else None for each in (found, expected)]
        if shapes[0] != shapes[1]:
            raise IncompatibleFineTune(
                f"{name!r} has the shape {shapes[0]} in the pipeline {folder} and {shapes[1]} in the base; import it onto "
                "the base that it was made from, with --base"
            )
    return found


def _without_table(module: nn.Module) -> dict[str, nn.Parameter]:
    get_table = getattr(module, "get_input_embeddings", None)
    table = get_table().weight if get_table else None
    return {name: each for name, each in module.named_parameters() if each is not table}


def _changed_table(base: Family, theirs: Family, encoder: str) -> dict[str, Tensor]:
    """The vocabulary's table, if another row than the added ones differs from the base's."""
    own, other = base.text_encoders[encoder], theirs.text_encoders[encoder]
    mine, found = _table(own).weight.detach(), _table(other).weight.detach()
    count = min([len(mine), len(found), *_added(base, theirs, encoder).values()])
    if mine.shape[1:] != found.shape[1:]:
        raise IncompatibleFineTune(f"the embedding of {encoder} is {found.shape[1]} wide, the base's {mine.shape[1]}")
    if torch.equal(mine[:count], found[:count]):
        return {}
    (name,) = (name for name, each in own.named_parameters() if each is _table(own).weight)
    return {name: torch.cat([found[:count], mine[count:]])}


def _added(base: Family, theirs: Family, encoder: str) -> dict[str, int]:
    own, found = base.vocabularies[encoder], theirs.vocabularies[encoder]
    lost = own.keys() - found.keys()
    if lost:
        raise IncompatibleFineTune(f"the tokenizer of {encoder} lacks {min(lost)!r}, which the base's has")
    return {word: number for word, number in found.items() if word not in own}


def _table(module: nn.Module) -> nn.Embedding:
    table = getattr(module, "get_input_embeddings")()  # noqa: B009 nn.Module does not know it
    assert isinstance(table, nn.Embedding)
    return table


def _weights(folder: Path) -> Mapping[str, Tensor]:
    files = [read_tensors(path) for path in sorted(folder.glob("*.safetensors"))]
    return {name: tensor for file in files for name, tensor in file.tensors.items()}


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal in the coarser of their precisions."""
    coarser = one.dtype if one.element_size() < other.element_size() else other.dtype
    return torch.equal(one.to(coarser), other.to(coarser))
