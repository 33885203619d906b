"""Presets: what they set, what wins over them, and that each says where its figures are from."""

import pytest

from packshot.domain.errors import InvalidConfiguration
from packshot.domain.presets import Preset, parse_config, preset_lines
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import Method

SIZES = [(128, "stable-diffusion"), (512, "stable-diffusion"), (1024, "stable-diffusion-xl"), (1024, "flux")]


def config(preset: str | None, method: str = "pivotal", resolution: int = 128, **values: object) -> TrainingConfig:
    family = str(values.pop("family", "stable-diffusion"))
    given = {"method": method, **({"preset": preset} if preset else {}), **values}
    return parse_config(given, base_resolution=resolution, family=family)


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize(("resolution", "family"), SIZES)
def test_standard_is_what_a_configuration_has_that_says_nothing(method, resolution, family):
    assert config("standard", method, resolution, family=family) == config(None, method, resolution, family=family)


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize(("resolution", "family"), SIZES)
def test_a_draft_takes_fewer_steps_and_the_best_is_chosen_among_more(method, resolution, family):
    draft, standard, best = (config(each, method, resolution, family=family) for each in Preset)
    assert draft.steps <= standard.steps / 2
    assert not draft.choose_steps
    assert best.choose_steps
    assert best.steps > standard.steps
    assert best.steps * best.batch_size >= 2 * standard.steps * standard.batch_size


def test_presets_hold_what_the_reference_recipes_publish():
    full = config("draft", "full", 512)
    assert (full.steps, full.uses_prior_preservation, full.learning_rate) == (400, False, 5e-6)
    assert config("best", "lora", 1024, family="flux").steps == 2000
    assert config("best", "lora", 512).rank == 16


def test_values_that_are_given_win_over_the_preset():
    given = config("best", "lora", 512, rank=2, steps=70)
    assert (given.rank, given.steps, given.choose_steps) == (2, 70, True)
    assert not config("best", "lora", 512, choose_steps=False).choose_steps
    assert config("draft", "full", 512, prior_weight=0.5).prior_weight == 0.5


def test_auto_steps_go_with_a_preset():
    for preset, most in (("draft", 250), ("standard", 500), ("best", 500)):
        chosen = config(preset, steps="auto")
        assert (chosen.choose_steps, chosen.steps) == (True, most)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(InvalidConfiguration, match="preset is 'fast'; write one of draft, standard, best"):
        config("fast")


@pytest.mark.parametrize(("resolution", "family"), SIZES)
def test_every_preset_says_where_its_figures_are_from(resolution, family):
    lines = preset_lines(base_resolution=resolution, family=family)
    assert [(each.method, each.preset) for each in lines] == [
        (method, preset) for method in Method for preset in Preset
    ]
    assert all(each.source.startswith(("measured", "published", "guess: ")) for each in lines)


def test_what_is_published_for_another_method_or_family_is_called_a_guess():
    def source(method: str, resolution: int, family: str) -> str:
        lines = preset_lines(base_resolution=resolution, family=family)
        return next(each.source for each in lines if (each.method, each.preset) == (method, "standard"))

    assert all(source(method, 128, "stable-diffusion").startswith("measured") for method in Method)
    assert source("lora", 1024, "flux").startswith("published")
    assert source("lora", 1024, "stable-diffusion-3").startswith("guess: as the published")
    assert source("pivotal", 512, "stable-diffusion").startswith("guess: as the published")
    assert source("full", 512, "stable-diffusion").startswith("published")
