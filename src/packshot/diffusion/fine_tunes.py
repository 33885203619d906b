"""A fine-tune as the engine takes it: parsed, checked against its base, and split by who needs what of it.

Knows no method: whether one can stand beside the denoiser is told by the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from packshot.diffusion.adapters import AdapterBank, LayerAdapter, bytes_of
from packshot.diffusion.methods import METHODS, of_denoiser, read
from packshot.diffusion.protocols import TOKEN_PREFIX, Family
from packshot.diffusion.weights import WeightsHeader, read_weights
from packshot.domain.errors import CorruptArtifact, IncompatibleFineTune
from packshot.domain.models import BaseModelRef, FineTune
from packshot.ports import LoadedFineTune


@dataclass(frozen=True, kw_only=True)
class ParsedFineTune:
    """``text`` is what text encoders need of it. ``adapters`` stand beside the denoiser; where they are None the
    fine-tune needs a denoiser of its own, with ``denoiser`` in it.
    """

    key: str
    header: WeightsHeader
    text: Mapping[str, Tensor]
    adapters: Mapping[str, LayerAdapter] | None
    denoiser: Mapping[str, Tensor]

    @property
    def num_bytes(self) -> int:
        """What its tensors take."""
        own = sum(tensor.nbytes for tensors in (self.text, self.denoiser) for tensor in tensors.values())
        return own + bytes_of(self.adapters or {})

    def changes(self, prompt: str) -> bool:
        """Whether the prompt's encoding can be another than the bare base's."""
        encoders = any(not name.startswith(TOKEN_PREFIX) for name in self.text)
        return encoders or (bool(self.header.token) and self.header.token in prompt)


def parse(fine_tune: LoadedFineTune, base: Family, bank: AdapterBank) -> ParsedFineTune:
    """Read the file, and see whether its adapters fit the bank.

    Raises:
        CorruptArtifact: not a file of ours, or damaged.
        IncompatibleFineTune: names or shapes that the base does not have.
        InvalidConfiguration: the token means something to the base already.
    """
    header, tensors = read_weights(fine_tune.read())
    own = of_denoiser(base, tensors)
    beside = METHODS[header.method].beside
    adapters = beside(base, header, tensors) if beside else None
    if adapters is not None and not bank.takes(adapters):
        adapters = None
    text = {name: tensor for name, tensor in tensors.items() if name not in own}
    with read(base, header, text):  # so that damaged rows are refused also where no prompt names the token
        pass
    return ParsedFineTune(
        key=fine_tune.sha256,
        header=header,
        text=text,
        adapters=adapters,
        denoiser=own if adapters is None else {},
    )


def check_header(header: WeightsHeader, base: BaseModelRef, record: FineTune) -> None:
    """Raise unless the weights are those of ``record``, for ``base``.

    Raises:
        IncompatibleFineTune: they were trained on another base.
        CorruptArtifact: they are those of another record.
    """
    if header.base_digest != base.digest:
        raise IncompatibleFineTune(
            f"the fine-tune was trained on a base with the digest {header.base_digest[:12]}, and {base.source} has "
            f"{base.digest[:12]}; use the base that it was trained on, or train it anew"
        )
    told = (header.method, header.token, header.trained_phrase)
    recorded = (record.method, record.token, record.trained_phrase)
    if told != recorded:
        raise CorruptArtifact(f"the weights say that they are {told}, the record says {recorded}; train it anew")
