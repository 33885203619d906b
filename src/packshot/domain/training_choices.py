"""What a training configuration chooses from: method, layers, optimiser, floats and the like. Knows no configuration."""

from enum import StrEnum
from typing import Self


class Method(StrEnum):
    """Which parameters learn. DreamBooth's identifier and prior preservation combine with each of them."""

    FULL = "full"
    LORA = "lora"
    PIVOTAL = "pivotal"
    TEXTUAL_INVERSION = "textual_inversion"
    HYPERNETWORK = "hypernetwork"

    @property
    def has_adapters(self) -> bool:
        """Whether low-rank adapters learn."""
        return self in (Method.LORA, Method.PIVOTAL)

    @property
    def can_train_text_encoder(self) -> bool:
        """Whether a text encoder may learn too: not where the method is to change nothing but its own part."""
        return self not in (Method.TEXTUAL_INVERSION, Method.HYPERNETWORK)


class Targets(StrEnum):
    """Which layers of the denoiser get low-rank adapters."""

    ATTENTION = "attention"
    ALL = "all"


class OptimizerKind(StrEnum):
    """Which optimiser takes the steps."""

    ADAMW = "adamw"
    ADAMW_8BIT = "adamw_8bit"
    PRODIGY = "prodigy"


class Schedule(StrEnum):
    """How the learning rates go on after warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"
    LINEAR = "linear"


class LossTarget(StrEnum):
    """What a loss compares predictions with: the images themselves, or the bare base's predictions of them."""

    IMAGES = "images"
    BASE = "base"


class HorizontalFlip(StrEnum):
    """Whether training photos are mirrored at random: ``auto`` asks the judge (see ``domain.mirroring``)."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """Booleans, which YAML makes of on and off, and which earlier versions wrote."""
        return cls({"true": "on", "false": "off"}[text]) if (text := str(value).lower()) in ("true", "false") else None


class MixedPrecision(StrEnum):
    """Which floats the forward pass computes with; weights and optimiser state stay in 32 bits.

    ``auto`` is bf16 where the device multiplies such floats itself, and 32 bits elsewhere.
    """

    AUTO = "auto"
    NO = "no"
    BF16 = "bf16"
    FP16 = "fp16"
