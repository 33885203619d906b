"""What a training run is told, and its record. Does not know tensors, files or how a method learns."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from packshot.domain.errors import InvalidConfiguration


class Method(StrEnum):
    """Which parameters learn. DreamBooth's identifier and prior preservation combine with each of them."""

    FULL = "full"
    LORA = "lora"
    PIVOTAL = "pivotal"


class Targets(StrEnum):
    """Which layers of the denoiser get low-rank adapters."""

    ATTENTION = "attention"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides a run's result besides base, reference set and code.

    A batch holds ``batch_size`` instance images and, with prior preservation (``prior_weight`` > 0), as many
    class images (Ruiz et al. 2023, DreamBooth): loss = instance + prior_weight * prior.

    Attributes:
        method: Which parameters learn: pivotal (low-rank adapters and the token), lora (adapters alone) or full.
        steps: Optimiser steps.
        batch_size: Instance images in a step.
        learning_rate: AdamW's, for everything but the token.
        token_learning_rate: AdamW's, for the token's embedding where it learns: pivotal, and full with
            train_text_encoder.
        weight_decay: AdamW's; the token is never decayed.
        max_gradient_norm: Gradients are clipped to this norm.
        snr_gamma: min-SNR weight of the instance loss (Hang et al. 2023); 0 = off.
        rank: Rank of the low-rank adapters, and their alpha.
        targets: Layers with adapters: attention, or all (attention, feed-forward and ResNet convolutions).
        train_text_encoder: Whether the text encoder learns too.
        resolution: Edge of the training images in pixels; 0 = the base's own.
        horizontal_flip: Whether images are mirrored at random; switch it off for labels with text.
        caption_dropout: Share of instance prompts that are replaced by the empty prompt.
        background_weight: Weight of the loss outside the product's mask, where a photo has one.
        prior_weight: Weight of the class images' loss; 0 = no prior preservation.
        num_class_images: Class images that the base makes; shared by all categories of the class noun.
        class_inference_steps: Denoising steps of a class image.
        class_guidance_scale: Guidance scale of a class image.
        checkpoint_every_steps: Steps between two checkpoints.
        seed: Seed of everything random in the run; the class images have a seed of their own.
    """

    method: Method = Method.PIVOTAL
    steps: int = 200
    batch_size: int = 8
    learning_rate: float = 1e-3
    token_learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    max_gradient_norm: float = 1.0
    snr_gamma: float = 5.0
    rank: int = 16
    targets: Targets = Targets.ALL
    train_text_encoder: bool = False
    resolution: int = 0
    horizontal_flip: bool = True
    caption_dropout: float = 0.0
    background_weight: float = 1.0
    prior_weight: float = 1.0
    num_class_images: int = 64
    class_inference_steps: int = 20
    class_guidance_scale: float = 4.0
    checkpoint_every_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every bound.

        Raises:
            InvalidConfiguration: a value out of its range; the message names key, value and range.
        """
        for key, low, high in _BOUNDS:
            value = getattr(self, key)
            if not low <= value <= high:
                raise InvalidConfiguration(f"{key} is {value!r}; it must lie between {low:g} and {high:g}")
        if self.resolution % 8:
            raise InvalidConfiguration(
                f"resolution is {self.resolution}; write a multiple of 8, or 0 for the base's own resolution"
            )

    @property
    def uses_prior_preservation(self) -> bool:
        """Whether class images take part."""
        return self.prior_weight > 0

    def digest(self) -> str:
        """sha256 of the canonical JSON: equal configurations have equal digests."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """The configuration as plain JSON values."""
        return dataclasses.asdict(self)


_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("steps", 1, 1_000_000),
    ("batch_size", 1, 1024),
    ("learning_rate", 0.0, 1.0),
    ("token_learning_rate", 0.0, 1.0),
    ("weight_decay", 0.0, 1.0),
    ("max_gradient_norm", 1e-6, 1e6),
    ("snr_gamma", 0.0, 1000.0),
    ("rank", 1, 1024),
    ("resolution", 0, 4096),
    ("caption_dropout", 0.0, 0.95),
    ("background_weight", 0.0, 1.0),
    ("prior_weight", 0.0, 100.0),
    ("num_class_images", 1, 10_000),
    ("class_inference_steps", 1, 1000),
    ("class_guidance_scale", 0.0, 50.0),
    ("checkpoint_every_steps", 1, 1_000_000),
    ("seed", 0, 2**32 - 1),
)


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One training: its parents by id, its configuration, and the code that ran. Its state is its job's."""

    id: str
    category_id: str
    reference_set_id: str
    base_id: str
    config: TrainingConfig
    code_revision: str
    job_id: str
    created_at: datetime


def with_article(noun: str) -> str:
    """``noun`` behind its indefinite article: "an apple", "a pear"."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def class_prompt(class_noun: str) -> str:
    """The prompt of the class pictures that preserve the prior."""
    return f"a photo of {with_article(class_noun)}"


def trained_token(identifier: str, set_digest: str) -> str:
    """The token that is added to the base's vocabulary: no two categories or sets share one, equal runs do."""
    return f"<packshot-{hashlib.sha256(f'{identifier} {set_digest}'.encode()).hexdigest()[:12]}>"


def trained_phrase(token: str, class_noun: str) -> str:
    """What a fine-tune is trained to answer to: its token before the class noun."""
    return f"{token} {class_noun}"


def instance_prompt(caption: str, class_noun: str, phrase: str) -> str:
    """The training prompt of one reference photo: its caption with the class noun replaced by the trained phrase.

    A caption that holds the phrase already stays as it is.

    >>> instance_prompt("a photo of an apple on a wooden table", "apple", "<t> apple")
    'a photo of a <t> apple on a wooden table'
    >>> instance_prompt("two apples, warm light", "apple", "<t> apple")
    'two <t> apples, warm light'
    >>> instance_prompt("on grass", "apple", "<t> apple")
    'a photo of a <t> apple, on grass'
    >>> instance_prompt("", "apple", "<t> apple")
    'a photo of a <t> apple'
    >>> instance_prompt("an apple bowl with a <t> apple", "apple", "<t> apple")
    'an apple bowl with a <t> apple'
    """
    if phrase in caption:
        return caption
    noun = re.compile(rf"\b(?:(?P<article>an?) )?{re.escape(class_noun)}(?P<plural>e?s)?\b", re.IGNORECASE)
    found = noun.search(caption)
    if found:
        article = "a " if found["article"] else ""
        return f"{caption[: found.start()]}{article}{phrase}{found['plural'] or ''}{caption[found.end() :]}"
    return f"a photo of a {phrase}, {caption}" if caption else f"a photo of a {phrase}"
