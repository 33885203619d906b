"""What a training takes, from what trial passes measured."""

from dataclasses import replace

import pytest

from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import HorizontalFlip, LossTarget, OptimizerKind
from packshot.domain.training_cost import TrainingCost, Trial, estimate_cost, num_looks

TRIAL = Trial(
    resident_bytes=10_000_000,
    base_parameters=500_000,
    learning_parameters=1000,
    activation_bytes=50_000,
    step_seconds=0.1,
    forward_seconds=0.01,
    encode_seconds=0.02,
    decode_seconds=0.03,
    guided_rows=2,
    on_processor=True,
)
CONFIG = TrainingConfig(steps=10, batch_size=4, num_class_images=6, class_inference_steps=5, validation_every_steps=4)


def cost(trial: Trial = TRIAL, num_photos: int = 5, num_look_pictures: int = 0, **changes: object) -> TrainingCost:
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return estimate_cost(config, trial, num_photos=num_photos, num_look_pictures=num_look_pictures)


def test_every_picture_of_every_batch_takes_its_time():
    assert cost().training_seconds == pytest.approx(10 * 8 * 0.1)
    assert cost(prior_weight=0.0).training_seconds == pytest.approx(10 * 4 * 0.1)
    assert cost(gradient_accumulation_steps=3).training_seconds == pytest.approx(3 * 10 * 8 * 0.1)


def test_class_images_take_guided_steps_and_only_with_prior_preservation():
    assert cost().class_image_seconds == pytest.approx(6 * (5 * 2 * 0.01 + 0.03))
    assert cost(class_guidance_scale=1.0).class_image_seconds == pytest.approx(6 * (5 * 0.01 + 0.03))
    assert cost(replace(TRIAL, guided_rows=1)).class_image_seconds == pytest.approx(6 * (5 * 0.01 + 0.03))
    assert cost(prior_weight=0.0).class_image_seconds == 0


def test_photos_and_class_images_are_encoded_once_or_twice():
    for flip in (HorizontalFlip.ON, HorizontalFlip.AUTO):
        assert cost(horizontal_flip=flip).preparation_seconds == pytest.approx((5 + 6) * 2 * 0.02)
    assert cost(prior_weight=0.0).preparation_seconds == pytest.approx(5 * 0.02)


def test_predictions_of_the_base_are_passes_before_the_training():
    seen_once_and_a_half = cost(prior_target=LossTarget.BASE, steps=2, batch_size=4, num_class_images=6)
    assert seen_once_and_a_half.preparation_seconds == pytest.approx((5 + 6) * 0.02 + 6 * 2 * 0.01)
    mirrored = cost(prior_target=LossTarget.BASE, horizontal_flip=HorizontalFlip.ON)
    assert mirrored.preparation_seconds == pytest.approx((2 * 5 + 6) * 0.02 + 6 * 7 * 0.01)
    assert cost(prior_target=LossTarget.BASE).preparation_seconds == pytest.approx((5 + 6) * 0.02 + 6 * 7 * 0.01)
    many = cost(prior_target=LossTarget.BASE, steps=1000)
    assert many.preparation_seconds == pytest.approx((5 + 6) * 0.02 + 6 * 8 * 0.01)


def test_predictions_of_photos_are_passes_too():
    assert cost(background_target=LossTarget.BASE).preparation_seconds == pytest.approx((5 + 6) * 0.02 + 5 * 8 * 0.01)
    many = cost(background_target=LossTarget.BASE, steps=1000)
    assert many.preparation_seconds == pytest.approx((5 + 6) * 0.02 + 5 * 64 * 0.01)


def test_looks_take_their_pictures():
    assert [num_looks(replace(CONFIG, steps=steps)) for steps in (1, 4, 5, 8)] == [2, 2, 3, 3]
    assert cost().look_seconds == 0
    assert cost(num_look_pictures=3).look_seconds == pytest.approx(4 * 3 * (20 * 2 * 0.01 + 0.03))


def test_the_whole_is_the_sum_of_its_parts():
    of = cost(num_look_pictures=3)
    parts = (of.training_seconds, of.class_image_seconds, of.preparation_seconds, of.look_seconds)
    assert of.seconds == pytest.approx(sum(parts))


def test_memory_is_base_state_gradients_and_activations():
    state, gradients = 1000 * (4 + 8), 1000 * 4
    assert cost().peak_bytes == 10_000_000 + state + gradients + 8 * 50_000
    assert cost(prior_weight=0.0).peak_bytes == 10_000_000 + state + gradients + 4 * 50_000
    assert cost(ema_decay=0.9).peak_bytes == cost().peak_bytes + 4000
    assert cost(optimizer=OptimizerKind.ADAMW_8BIT).peak_bytes == cost().peak_bytes - 6000


def test_where_checkpoints_take_more_than_a_step_they_are_the_peak():
    small = replace(TRIAL, activation_bytes=10)
    assert cost(small).peak_bytes == 10_000_000 + 3 * 12_000
    assert cost(replace(small, on_processor=False)).peak_bytes == 10_000_000 + 12_000 + 4000 + 80
