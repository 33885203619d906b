"""The file of a fine-tune: safetensors with one JSON header. Does not know what the tensors mean.

All of the header stands under a single metadata key, because safetensors writes several keys in a random order and
equal runs must give equal bytes. Tensors are stored as trained, in 32-bit floats, so that loading is exact everywhere.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from packshot.diffusion.protocols import TOKEN_PREFIX
from packshot.domain.errors import CorruptArtifact
from packshot.domain.training_choices import Method

WEIGHTS_FILE = "weights.safetensors"
FORMAT = "packshot"
HEADER_KEY = "packshot"


@dataclass(frozen=True, kw_only=True)
class WeightsHeader:
    """What a fine-tune's file says about itself.

    ``config`` is the training configuration as JSON, ``{}`` where it is not known. ``token`` is empty, and the file has
    no rows, where the phrase is made of the base's own words.
    """

    method: Method
    family: str
    base_digest: str
    token: str
    trained_phrase: str
    class_noun: str
    rank: int
    alpha: int
    config: str
    format: str = FORMAT
    version: int = 1


def header_text(header: WeightsHeader) -> str:
    """The header as JSON: equal headers give equal text."""
    return json.dumps(dataclasses.asdict(header), sort_keys=True)


def parse_header(text: str) -> WeightsHeader:
    """The inverse of ``header_text``; KeyError, TypeError or ValueError where it is none."""
    values = json.loads(text)
    numbers = {name: int(values[name]) for name in ("rank", "alpha", "version")}
    return WeightsHeader(**{**values, **numbers, "method": Method(values["method"])})


def write_weights(header: WeightsHeader, tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of the file: equal headers and tensors give equal bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(plain, metadata={HEADER_KEY: header_text(header)})


def read_weights(data: bytes) -> tuple[WeightsHeader, dict[str, Tensor]]:
    """Header and tensors of a file that ``write_weights`` made.

    Raises:
        CorruptArtifact: not such a file, or a damaged one.
    """
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        header = parse_header(metadata[HEADER_KEY])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptArtifact(
            f"the weights are no file that Packshot wrote, or it is damaged ({error}); train the version anew"
        ) from error
    if header.rank < 1 or header.alpha < 1:
        raise CorruptArtifact(
            f"the weights have rank {header.rank} and alpha {header.alpha}; the file is damaged: train the version anew"
        )
    if header.format != FORMAT or header.version != 1:
        raise CorruptArtifact(
            f"the weights have format {header.format!r} version {header.version}; this program reads "
            f"{FORMAT!r} version 1: upgrade Packshot"
        )
    return header, tensors


def token_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The rows of the token by text encoder."""
    return {name[len(TOKEN_PREFIX) :]: tensor for name, tensor in tensors.items() if name.startswith(TOKEN_PREFIX)}
