"""Use cases: what a training will take before it begins, by trial passes or by what finished ones took."""

from packshot.domain.catalog import Category, check_in_use
from packshot.domain.jobs import JobKind
from packshot.domain.models import BaseModelRef
from packshot.domain.training import TrainingConfig, TrainingRun
from packshot.domain.training_cost import TrainingCost, estimate_cost
from packshot.ports import Records, Trainer
from packshot.services.estimates import Estimate, EstimatedModel, cost_foreseen, foresee, recent
from packshot.services.limits import num_unfinished
from packshot.services.step_choice import NUM_PICTURES
from packshot.services.training import newest_set
from packshot.services.validation import validation_samples


def foresee_cost(
    records: Records, trainer: Trainer, category: Category, base: BaseModelRef, config: TrainingConfig
) -> TrainingCost:
    """Memory and time of a training of the newest set with ``config``, from a few trial passes; nothing is recorded.

    Raises:
        NotFound, CategoryRetired, UnknownIdentifier: as ``plan_training``.
        InvalidConfiguration, InvalidInput: the base cannot be trained so.
    """
    check_in_use(category)
    frozen = newest_set(records, category)
    pictures = len(validation_samples(category, config, phrase=category.class_noun))
    return estimate_cost(
        config,
        trainer.try_out(base, config, category.class_noun),
        num_photos=len(frozen.image_ids) - len(frozen.held_out_ids),
        num_look_pictures=pictures + (NUM_PICTURES if config.choose_steps else 0),
    )


def estimate_training(
    records: Records, category: Category, base: BaseModelRef, config: TrainingConfig, *, price_per_hour: float = 0
) -> Estimate:
    """What ``plan_training`` with these would lead to, without a look at the base; nothing is recorded.

    Finished trainings on the same base, by the same method at the same resolution, tell the time; class images are in it as
    far as they were in theirs. Where the steps are chosen on the way, it is that of all of them.

    Raises:
        NotFound, CategoryRetired, UnknownIdentifier: as ``plan_training``.
    """
    check_in_use(category)
    frozen = newest_set(records, category)
    validation_samples(category, config, phrase=category.class_noun)
    prior = config.uses_prior_preservation
    class_images = config.num_class_images if prior else 0
    training_images = config.steps * _images_per_step(config)
    time = foresee({"training": training_images}, {"training": _rates(records, base, config)})
    return Estimate(
        kind=JobKind.TRAINING,
        models=(
            EstimatedModel(
                category=category.identifier,
                reference_set_version=frozen.version,
                base=base.source,
                base_id=base.id,
            ),
        ),
        pictures=class_images,
        denoising_steps=class_images * config.class_inference_steps,
        training_steps=config.steps,
        training_images=training_images,
        jobs_ahead=num_unfinished(records),
        seconds=time.seconds,
        cost=cost_foreseen(time, price_per_hour),
        measured_jobs=time.measured_jobs,
    )


def _images_per_step(config: TrainingConfig) -> int:
    """Pictures that go forward and backward in an optimiser step."""
    return config.batch_size * config.gradient_accumulation_steps * (2 if config.uses_prior_preservation else 1)


def _rates(records: Records, base: BaseModelRef, config: TrainingConfig) -> list[float]:
    """Seconds per training image of the newest trainings that are like this one."""
    took = recent(records, JobKind.TRAINING)
    return [
        took[run.job_id].seconds / (took[run.job_id].num_steps * _images_per_step(run.config))
        for run in records.find(TrainingRun, job_id=[*took], base_id=base.id)
        if (run.config.method, run.config.resolution) == (config.method, config.resolution)
        and took[run.job_id].num_steps
    ]
