"""What a training run is told, and its record. Does not know tensors, files or how a method learns."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, get_type_hints

from packshot.domain.errors import InvalidConfiguration
from packshot.domain.prompts import check_prompt
from packshot.domain.training_choices import (
    HorizontalFlip,
    LossTarget,
    Method,
    MixedPrecision,
    OptimizerKind,
    Schedule,
    Targets,
)

# What stands in a validation prompt for the product that is trained, so that one configuration serves many categories.
PRODUCT = "{product}"
MAX_VALIDATION_PROMPTS = 16


# A value of a configuration as JSON has it.
Plain = str | int | float | bool | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides a run's result besides base, reference set and code.

    A batch holds ``batch_size`` instance images and, with prior preservation (``prior_weight`` > 0), as many
    class images (Ruiz et al. 2023, DreamBooth): loss = instance + prior_weight * prior.

    Attributes:
        method: Which parameters learn: pivotal (low-rank adapters and the token), lora (adapters alone), full,
            textual_inversion (the token alone) or hypernetwork (networks before the prompt's keys and values).
        steps: Optimiser steps, at the most where they are chosen; auto = choose_steps, with twice the default steps.
        choose_steps: Whether training ends by the scores of held-out photos, and the best step is kept (--steps auto).
        batch_size: Instance images in a batch.
        gradient_accumulation_steps: Batches whose gradients are averaged for one optimiser step.
        gradient_checkpointing: Whether the denoiser's activations are computed anew for the backward pass, which takes
            less memory and more time.
        mixed_precision: Floats of the forward pass: no (32 bits), bf16 or fp16, which scales the loss; auto = bf16 where
            the device multiplies such floats itself, else no.
        optimizer: adamw, adamw_8bit (needs bitsandbytes) or prodigy (needs prodigyopt), which finds learning rates itself
            and takes those below as factors, by default 1.
        learning_rate_schedule: constant, or falling to 0 by the last step: linear or cosine.
        warmup_steps: Steps in which the learning rates rise to their full height.
        learning_rate: The optimiser's, for everything but what the next two name.
        text_encoder_learning_rate: The optimiser's, for text encoders that learn; 0 = learning_rate.
        token_learning_rate: The optimiser's, for the token's embedding where it learns: pivotal, textual_inversion, and full with
            train_text_encoder.
        weight_decay: The optimiser's; the token is never decayed.
        max_gradient_norm: Gradients are clipped to this norm.
        ema_decay: Share that a moving average of what learns keeps at each step; the average is saved. 0 = off.
        noise_offset: Share of noise that is equal all over a channel, so that dark and bright pictures are learned.
        snr_gamma: min-SNR weight of the instance loss (Hang et al. 2023); 0 = off.
        num_vectors: Embeddings that the token stands for, 1 to 8.
        rank: Rank of the low-rank adapters, and their alpha; width of a hypernetwork's hidden layers.
        use_dora: Whether adapters learn the length of each row of a weight apart from its direction (DoRA).
        targets: Layers with adapters: attention, or all (attention, feed-forward and ResNet convolutions).
        train_text_encoder: Whether the text encoders learn too (pivotal, lora, full); a T5 encoder never does.
        resolution: Edge of the training images in pixels; 0 = the base's own.
        aspect_ratio_buckets: Whether photos keep about their own shape, at the area of the resolution, instead of being
            cut to squares.
        horizontal_flip: Whether photos are mirrored at random: on, off, or auto, where the judge finds them and their mirror images
            alike, so that products with text or sides are not.
        caption_dropout: Share of instance prompts that are replaced by the empty prompt.
        background_weight: Weight of the loss outside the product's mask, where a photo has one.
        background_target: What the loss outside the mask compares with: images, the photo itself, or base, what the base
            predicts there of the plain class (distillation), which leaves scenes as they are. Such photos are seen with
            noises that are drawn before the training, without noise_offset.
        background_replacement: Share of those noises in which the product, by its mask, is in front of a class image whose prompt
            names as many (cut and paste: Dwibedi et al. 2017), so that it is learned apart from the photos' scenes; with
            background_target=base and prior preservation.
        prior_weight: Weight of the class images' loss; 0 = no prior preservation.
        prior_target: What the loss of class images compares with: the images (Ruiz et al. 2023), or what the base predicts of
            them (distillation), which asks for no change where there is none.
        num_class_images: Class images that the base makes; shared by all categories that ask for the same.
        class_captions: Whether about half of the class images, as many of each, are made of the reference photos' captions,
            with the class noun alone, so that they show the same scenes.
        class_inference_steps: Denoising steps of a class image.
        class_guidance_scale: Guidance scale of a class image.
        checkpoint_every_steps: Steps between two checkpoints.
        validation_prompts: Prompts of pictures that are made on the way with what was learned so far, to look at. {product}
            and the category's identifier stand for the product; in a text, prompts are parted by |.
        validation_every_steps: Steps between two looks, which make such pictures and, with choose_steps, those that are
            scored; there is one before the first step, and one after the last.
        seed: Seed of everything random in the run; the class images have a seed of their own.
    """

    method: Method = Method.PIVOTAL
    steps: int = 200
    choose_steps: bool = False
    batch_size: int = 8
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    mixed_precision: MixedPrecision = MixedPrecision.NO
    optimizer: OptimizerKind = OptimizerKind.ADAMW
    learning_rate_schedule: Schedule = Schedule.CONSTANT
    warmup_steps: int = 0
    learning_rate: float = 1e-3
    text_encoder_learning_rate: float = 0.0
    token_learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.0
    noise_offset: float = 0.0
    snr_gamma: float = 5.0
    num_vectors: int = 1
    rank: int = 16
    use_dora: bool = False
    targets: Targets = Targets.ALL
    train_text_encoder: bool = False
    resolution: int = 0
    aspect_ratio_buckets: bool = False
    horizontal_flip: HorizontalFlip = HorizontalFlip.OFF
    caption_dropout: float = 0.0
    background_weight: float = 1.0
    background_target: LossTarget = LossTarget.IMAGES
    background_replacement: float = 0.0
    prior_weight: float = 1.0
    prior_target: LossTarget = LossTarget.IMAGES
    num_class_images: int = 64
    class_captions: bool = False
    class_inference_steps: int = 20
    class_guidance_scale: float = 4.0
    checkpoint_every_steps: int = 50
    validation_prompts: tuple[str, ...] = ()
    validation_every_steps: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every bound.

        Raises:
            InvalidConfiguration: a value out of its range, or two that exclude each other; the message names them.
            InvalidPrompt: a validation prompt that breaks the rules of prompts.
        """
        for key, low, high in _BOUNDS:
            value = getattr(self, key)
            if not low <= value <= high:
                raise InvalidConfiguration(f"{key} is {value!r}; it must lie between {low:g} and {high:g}")
        if self.resolution % 8:
            raise InvalidConfiguration(
                f"resolution is {self.resolution}; write a multiple of 8, or 0 for the base's own resolution"
            )

        if len(self.validation_prompts) > MAX_VALIDATION_PROMPTS:
            raise InvalidConfiguration(
                f"validation_prompts has {len(self.validation_prompts)} prompts; write at most {MAX_VALIDATION_PROMPTS}"
            )
        for prompt in self.validation_prompts:
            check_prompt(prompt)
        if self.train_text_encoder and not self.method.can_train_text_encoder:
            raise InvalidConfiguration(
                f"train_text_encoder is true, and {self.method} changes nothing but its own part; set "
                "train_text_encoder=false, or choose pivotal, lora or full"
            )
        if self.use_dora and not self.method.has_adapters:
            raise InvalidConfiguration(
                f"use_dora is true, and {self.method} has no low-rank adapters; set use_dora=false, or choose lora or "
                "pivotal"
            )

    @property
    def rate_of_text_encoders(self) -> float:
        """The learning rate of text encoders."""
        return self.text_encoder_learning_rate or self.learning_rate

    @property
    def uses_prior_preservation(self) -> bool:
        """Whether class images take part."""
        return self.prior_weight > 0

    @property
    def mirrors(self) -> bool:
        """Whether photos are mirrored.

        Raises:
            InvalidConfiguration: it is auto, and nobody has looked at the photos.
        """
        if self.horizontal_flip is HorizontalFlip.AUTO:
            raise InvalidConfiguration(
                "horizontal_flip is auto, which asks a judge about the photos; set it to on or off"
            )
        return self.horizontal_flip is HorizontalFlip.ON

    @property
    def mirrors_class_images(self) -> bool:
        """Whether class images are mirrored too: not those that the base has predicted, which are as they were then."""
        return self.mirrors and not self.predictions_per_class_image

    @property
    def predictions_per_class_image(self) -> int:
        """How often the bare base predicts each class image: as often as it is seen, at the most 8 times; 0 = never."""
        if not self.uses_prior_preservation or self.prior_target is LossTarget.IMAGES:
            return 0
        return min(_MAX_CLASS_IMAGE_PREDICTIONS, self._times_seen(self.num_class_images))

    def predictions_per_photo(self, num_photos: int) -> int:
        """How often the bare base predicts each photo that has a mask: as often as it is seen, at the most 64 times; 0 = never."""
        if self.background_target is LossTarget.IMAGES:
            return 0
        return min(_MAX_PHOTO_PREDICTIONS, self._times_seen(num_photos))

    def _times_seen(self, num_images: int) -> int:
        return -(-self.steps * self.gradient_accumulation_steps * self.batch_size // num_images)

    @property
    def frozen_precision(self) -> MixedPrecision:
        """The floats that the base's own weights are kept in: those of the passes, unless they learn themselves.

        A step changes a weight by less than shorter floats can tell apart.
        """
        return MixedPrecision.NO if self.method is Method.FULL else self.mixed_precision

    @property
    def can_be_grouped(self) -> bool:
        """Whether a base can hold several such trainings at once: they leave its own weights alone.

        Not with ``gradient_checkpointing``, which looks at the base again after other trainings have been in it, nor
        with ``use_dora``, whose gradients would be summed in another order than alone.
        """
        return self.method is not Method.FULL and not self.gradient_checkpointing and not self.use_dora

    def goes_with(self, other: Self) -> bool:
        """Whether the two can be trained together: they take gradients of as many batches, in the same floats."""
        return (
            self.can_be_grouped
            and other.can_be_grouped
            and self.mixed_precision is other.mixed_precision
            and self.gradient_accumulation_steps == other.gradient_accumulation_steps
        )

    def digest(self) -> str:
        """sha256 of the canonical JSON: equal configurations have equal digests."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Plain]:
        """The configuration as plain JSON values."""
        return {**dataclasses.asdict(self), "validation_prompts": list(self.validation_prompts)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Plain]) -> Self:
        """The inverse of ``to_dict``; keys that an older version did not write take their defaults."""
        types = get_type_hints(cls)
        return cls(**{key: types[key](value) for key, value in values.items()})


_MAX_CLASS_IMAGE_PREDICTIONS, _MAX_PHOTO_PREDICTIONS = 8, 64

_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("steps", 1, 1_000_000),
    ("batch_size", 1, 1024),
    ("gradient_accumulation_steps", 1, 1024),
    ("warmup_steps", 0, 1_000_000),
    ("learning_rate", 0.0, 1.0),
    ("text_encoder_learning_rate", 0.0, 1.0),
    ("token_learning_rate", 0.0, 1.0),
    ("weight_decay", 0.0, 1.0),
    ("max_gradient_norm", 1e-6, 1e6),
    ("ema_decay", 0.0, 0.999999),
    ("noise_offset", 0.0, 1.0),
    ("snr_gamma", 0.0, 1000.0),
    ("num_vectors", 1, 8),
    ("rank", 1, 1024),
    ("resolution", 0, 4096),
    ("caption_dropout", 0.0, 0.95),
    ("background_weight", 0.0, 1.0),
    ("background_replacement", 0.0, 1.0),
    ("prior_weight", 0.0, 100.0),
    ("num_class_images", 1, 10_000),
    ("class_inference_steps", 1, 1000),
    ("class_guidance_scale", 0.0, 50.0),
    ("checkpoint_every_steps", 1, 1_000_000),
    ("validation_every_steps", 1, 1_000_000),
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
