"""Use case: what a training will take, before it begins."""

from packshot.domain.catalog import Category, check_in_use
from packshot.domain.models import BaseModelRef
from packshot.domain.training import TrainingConfig
from packshot.domain.training_cost import TrainingCost, estimate_cost
from packshot.ports import Records, Trainer
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
