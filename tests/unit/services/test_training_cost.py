"""What a training will take, before it begins."""

from dataclasses import replace

import pytest
from fake_models import TRIAL

from packshot.domain.errors import CategoryRetired, NotFound, UnknownIdentifier
from packshot.domain.jobs import Job
from packshot.domain.training import TrainingConfig
from packshot.domain.training_cost import estimate_cost
from packshot.services.catalog import retire_category
from packshot.services.training_cost import foresee_cost


def test_the_cost_is_that_of_the_photos_to_learn_from_and_the_pictures_of_the_looks(space):
    category = space.category("fuji", 10)
    config = TrainingConfig(steps=30, validation_prompts=("an apple", "{product}"))
    for changes, pictures in (({}, 2), ({"choose_steps": True}, 14), ({"validation_prompts": ()}, 0)):
        chosen = replace(config, **changes)
        cost = foresee_cost(space.records, space.trainer, category, space.base(), chosen)
        assert cost == estimate_cost(chosen, TRIAL, num_photos=8, num_look_pictures=pictures)
    assert space.records.find(Job) == []


def test_what_could_not_be_planned_is_refused(space):
    empty, base = space.category("gala", 3), space.base()
    with pytest.raises(NotFound, match="references freeze"):
        foresee_cost(space.records, space.trainer, empty, base, TrainingConfig())
    category = space.category()
    with pytest.raises(UnknownIdentifier):
        prompts = TrainingConfig(validation_prompts=("sks_gala_apple",))
        foresee_cost(space.records, space.trainer, category, base, prompts)
    with pytest.raises(CategoryRetired):
        retired = retire_category(space.records, category.path)
        foresee_cost(space.records, space.trainer, retired, base, TrainingConfig())
