"""What a training will take, in memory and seconds: arithmetic over what a few trial passes measured.

Does not know how they were measured. What the judge takes, where it chooses the steps, is not in it.
"""

from dataclasses import dataclass

from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, OptimizerKind

# Bytes that a parameter which learns takes: itself, its gradient, and the optimiser's two moments.
_FLOAT = 4
_MOMENTS = {OptimizerKind.ADAMW: 8, OptimizerKind.ADAMW_8BIT: 2, OptimizerKind.PRODIGY: 8}

# A checkpoint is one string of bytes while it is written, and a second one while it is read back.
_CHECKPOINT_COPIES = 2

# Denoising steps of a picture that a look makes.
LOOK_INFERENCE_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What trial passes through a loaded base measured.

    Attributes:
        resident_bytes: What the process holds between two steps, but for what learns.
        base_parameters: Parameters of the base's denoiser and text encoders.
        learning_parameters: Parameters that learn.
        activation_bytes: What one picture of a batch takes at the height of a step.
        step_seconds: Forward and backward pass, for one picture of a batch.
        forward_seconds: A forward pass without gradients, for one picture.
        encode_seconds: One picture to latents.
        decode_seconds: Latents to one picture.
        guided_rows: Rows that a guided picture takes in a denoising step: 2, or 1 where the base reads the scale itself.
        on_processor: Whether it is computed where checkpoints are written from, in the main memory.
    """

    resident_bytes: int
    base_parameters: int
    learning_parameters: int
    activation_bytes: int
    step_seconds: float
    forward_seconds: float
    encode_seconds: float
    decode_seconds: float
    guided_rows: int
    on_processor: bool


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """An estimate. ``class_image_seconds`` fall away where an earlier training has left the class images.

    ``peak_bytes`` is the memory of the process, or that of its accelerator where it has one.
    """

    peak_bytes: int
    training_seconds: float
    class_image_seconds: float
    preparation_seconds: float
    look_seconds: float
    base_parameters: int
    learning_parameters: int

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.training_seconds + self.class_image_seconds + self.preparation_seconds + self.look_seconds


def estimate_cost(config: TrainingConfig, trial: Trial, *, num_photos: int, num_look_pictures: int) -> TrainingCost:
    """The cost of a training of ``num_photos`` photos that makes ``num_look_pictures`` at every look."""
    rows = config.batch_size * (2 if config.uses_prior_preservation else 1)
    class_images = config.num_class_images if config.uses_prior_preservation else 0
    guided = trial.guided_rows if config.class_guidance_scale > 1 else 1
    predictions = config.predictions_per_class_image
    looks = num_looks(config) if num_look_pictures else 0
    mirrored = 1 if config.horizontal_flip is HorizontalFlip.OFF else 2
    return TrainingCost(
        peak_bytes=trial.resident_bytes + _learning_bytes(config, trial, rows),
        training_seconds=config.steps * config.gradient_accumulation_steps * rows * trial.step_seconds,
        class_image_seconds=class_images
        * (config.class_inference_steps * guided * trial.forward_seconds + trial.decode_seconds),
        preparation_seconds=(num_photos * mirrored + class_images * (1 if predictions else mirrored))
        * trial.encode_seconds
        + (class_images * predictions + num_photos * config.predictions_per_photo(num_photos)) * trial.forward_seconds,
        look_seconds=looks
        * num_look_pictures
        * (LOOK_INFERENCE_STEPS * trial.guided_rows * trial.forward_seconds + trial.decode_seconds),
        base_parameters=trial.base_parameters,
        learning_parameters=trial.learning_parameters,
    )


def num_looks(config: TrainingConfig) -> int:
    """How many looks a training makes that takes all its steps: one before the first, and one after the last."""
    return 1 + -(-config.steps // config.validation_every_steps)


def _learning_bytes(config: TrainingConfig, trial: Trial, rows: int) -> int:
    """What comes on top of the base at the highest: in a step, or while a checkpoint is written."""
    moments = _MOMENTS[config.optimizer]
    average = _FLOAT if config.ema_decay else 0
    kept = trial.learning_parameters * (_FLOAT + moments + average)
    step = trial.learning_parameters * _FLOAT + rows * trial.activation_bytes
    return kept + max(step, _CHECKPOINT_COPIES * kept if trial.on_processor else 0)
