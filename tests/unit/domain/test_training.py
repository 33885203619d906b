import dataclasses
import json
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packshot.domain.errors import InvalidConfiguration, InvalidPrompt
from packshot.domain.presets import FLOW_FAMILIES, check_supported, parse_config
from packshot.domain.training import TrainingConfig
from packshot.domain.training_choices import (
    HorizontalFlip,
    LossTarget,
    Method,
    MixedPrecision,
    OptimizerKind,
    Schedule,
    Targets,
)
from packshot.domain.training_prompts import class_prompt, instance_prompt, trained_phrase, trained_token, with_article

PHRASE = "<t> apple"

BOUNDS = {
    "steps": (1, 1_000_000),
    "batch_size": (1, 1024),
    "gradient_accumulation_steps": (1, 1024),
    "warmup_steps": (0, 1_000_000),
    "learning_rate": (0, 1),
    "text_encoder_learning_rate": (0, 1),
    "token_learning_rate": (0, 1),
    "weight_decay": (0, 1),
    "max_gradient_norm": (1e-6, 1e6),
    "ema_decay": (0, 0.999999),
    "noise_offset": (0, 1),
    "snr_gamma": (0, 1000),
    "num_vectors": (1, 8),
    "rank": (1, 1024),
    "resolution": (0, 4096),
    "caption_dropout": (0, 0.95),
    "background_weight": (0, 1),
    "background_replacement": (0, 1),
    "prior_weight": (0, 100),
    "num_class_images": (1, 10_000),
    "class_inference_steps": (1, 1000),
    "class_guidance_scale": (0, 50),
    "checkpoint_every_steps": (1, 1_000_000),
    "validation_every_steps": (1, 1_000_000),
    "seed": (0, 2**32 - 1),
}
CHOICES = {
    "method": Method,
    "targets": Targets,
    "optimizer": OptimizerKind,
    "learning_rate_schedule": Schedule,
    "mixed_precision": MixedPrecision,
    "prior_target": LossTarget,
    "background_target": LossTarget,
    "horizontal_flip": HorizontalFlip,
}
SWITCHES = {
    "train_text_encoder",
    "use_dora",
    "gradient_checkpointing",
    "aspect_ratio_buckets",
    "choose_steps",
    "class_captions",
}
PROMPTS = {"validation_prompts"}
WHOLE = {name for name, kind in get_type_hints(TrainingConfig).items() if kind is int}


@pytest.mark.parametrize("family", sorted(FLOW_FAMILIES))
def test_a_flow_has_no_min_snr_weights(family: str) -> None:
    assert parse_config({}, base_resolution=1024, family=family).snr_gamma == 0
    with pytest.raises(InvalidConfiguration, match="set snr_gamma=0"):
        parse_config({"snr_gamma": 5}, base_resolution=1024, family=family)
    with pytest.raises(InvalidConfiguration, match="learns a flow"):
        check_supported(TrainingConfig(), family)


def test_every_field_is_tested_here_by_bound_choice_switch_or_prompts():
    assert {field.name for field in dataclasses.fields(TrainingConfig)} == {*BOUNDS, *CHOICES, *SWITCHES, *PROMPTS}


@pytest.mark.parametrize(("key", "bounds"), BOUNDS.items())
def test_a_value_within_its_bounds_is_taken_and_one_outside_is_named(key, bounds):
    low, high = bounds
    for value in (low, high):
        assert getattr(parse_config({key: value}, base_resolution=128), key) == value
    beyond = high + (8 if key == "resolution" else 1)
    for value in (-8, beyond):
        with pytest.raises(InvalidConfiguration, match=rf"{key} is .*between"):
            parse_config({key: value}, base_resolution=128)


@pytest.mark.parametrize("key", BOUNDS)
@pytest.mark.parametrize("value", ["many", "", None, True, [1], {"a": 1}, "nan", "inf", "-inf", float("nan")])
def test_what_is_no_number_is_refused_with_its_key(key, value):
    with pytest.raises(InvalidConfiguration, match=f"{key} is "):
        parse_config({key: value}, base_resolution=128)


@pytest.mark.parametrize("key", sorted(WHOLE))
def test_whole_numbers_take_no_fraction(key):
    with pytest.raises(InvalidConfiguration, match=f"{key} is '8.5'; write a whole number"):
        parse_config({key: "8.5"}, base_resolution=128)
    value = getattr(parse_config({key: "8.0"}, base_resolution=128), key)
    assert value == 8
    assert type(value) is int


@pytest.mark.parametrize(("key", "kind"), CHOICES.items())
def test_choices_are_taken_by_name(key, kind):
    for choice in kind:
        assert getattr(parse_config({key: choice.value}, base_resolution=128), key) is choice
    with pytest.raises(InvalidConfiguration, match=f"{key} is 'dora'; write one of {', '.join(kind)}"):
        parse_config({key: "dora"}, base_resolution=128)


@pytest.mark.parametrize("key", sorted(SWITCHES))
def test_switches_are_true_or_false_and_nothing_else(key):
    for text, value in {"true": True, "False": False, " TRUE ": True, True: True, False: False}.items():
        assert getattr(parse_config({key: text}, base_resolution=128), key) is value
    for text in ("yes", "1", 1, 0, "", None):
        with pytest.raises(InvalidConfiguration, match=f"{key} is .*; write true or false"):
            parse_config({key: text}, base_resolution=128)


@pytest.mark.parametrize(("value", "flip"), [(True, HorizontalFlip.ON), ("false", HorizontalFlip.OFF)])
def test_mirroring_may_be_a_boolean_which_yaml_makes_of_on_and_off(value, flip):
    assert parse_config({"horizontal_flip": value}, base_resolution=128).horizontal_flip is flip
    written_before = {**TrainingConfig().to_dict(), "horizontal_flip": flip is HorizontalFlip.ON}
    assert TrainingConfig.from_dict(written_before) == TrainingConfig(horizontal_flip=flip)


def test_whether_a_configuration_mirrors_is_unknown_until_a_judge_was_asked():
    assert TrainingConfig(horizontal_flip=HorizontalFlip.ON).mirrors
    assert not TrainingConfig(horizontal_flip=HorizontalFlip.OFF).mirrors
    for target, class_images_too in ((LossTarget.IMAGES, True), (LossTarget.BASE, False)):
        config = TrainingConfig(horizontal_flip=HorizontalFlip.ON, prior_target=target)
        assert config.mirrors_class_images is class_images_too
    with pytest.raises(InvalidConfiguration, match="horizontal_flip is auto.*set it to on or off"):
        _ = TrainingConfig(horizontal_flip=HorizontalFlip.AUTO).mirrors


@pytest.mark.parametrize("value", ["a {product} on grass | an apple|", ["a {product} on grass", " an apple "]])
def test_validation_prompts_are_a_list_or_a_text_with_bars(value):
    config = parse_config({"validation_prompts": value}, base_resolution=128)
    assert config.validation_prompts == ("a {product} on grass", "an apple")
    again = TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.digest() == config.digest() != TrainingConfig(**{**vars(config), "validation_prompts": ()}).digest()


@pytest.mark.parametrize("value", [7, None, True, {"a": 1}])
def test_what_is_no_list_of_prompts_is_refused(value):
    with pytest.raises(InvalidConfiguration, match="validation_prompts is .*; write a list of prompts"):
        parse_config({"validation_prompts": value}, base_resolution=128)


def test_validation_prompts_obey_the_rules_of_prompts_and_are_sixteen_at_most():
    with pytest.raises(InvalidPrompt, match="angle brackets"):
        parse_config({"validation_prompts": "a <token> apple"}, base_resolution=128)
    with pytest.raises(InvalidConfiguration, match="has 17 prompts; write at most 16"):
        parse_config({"validation_prompts": ["an apple"] * 17}, base_resolution=128)


def test_auto_chooses_the_steps_among_twice_the_default():
    for resolution, method, most in ((128, "pivotal", 500), (512, "full", 1600), (512, "lora", 1000)):
        config = parse_config({"steps": " auto ", "method": method}, base_resolution=resolution)
        assert (config.choose_steps, config.steps) == (True, most)
    told = parse_config({"choose_steps": True, "steps": 300}, base_resolution=128)
    assert (told.choose_steps, told.steps) == (True, 300)
    with pytest.raises(InvalidConfiguration, match="steps is auto and choose_steps is"):
        parse_config({"steps": "auto", "choose_steps": "false"}, base_resolution=128)


def test_text_is_read_as_the_keys_type():
    config = parse_config({"learning_rate": "1e-4", "steps": " 30 ", "seed": "4294967295"}, base_resolution=128)
    assert (config.learning_rate, config.steps, config.seed) == (1e-4, 30, 2**32 - 1)


def test_a_resolution_is_a_multiple_of_eight():
    with pytest.raises(InvalidConfiguration, match="resolution is 100; write a multiple of 8"):
        parse_config({"resolution": 100}, base_resolution=128)


def test_an_unknown_key_names_the_near_one():
    with pytest.raises(
        InvalidConfiguration, match="unknown configuration key 'lerning_rate'; did you mean learning_rate"
    ):
        parse_config({"lerning_rate": 1}, base_resolution=128)


def test_an_unknown_key_near_nothing_lists_all():
    with pytest.raises(InvalidConfiguration) as caught:
        parse_config({"zzz": 1}, base_resolution=128)
    assert all(field.name in str(caught.value) for field in dataclasses.fields(TrainingConfig))


@pytest.mark.parametrize("method", Method)
def test_a_full_size_base_gets_the_published_learning_rates(method):
    small = parse_config({"method": method}, base_resolution=256)
    full_size = parse_config({"method": method}, base_resolution=264)
    rate = "token_learning_rate" if method is Method.TEXTUAL_INVERSION else "learning_rate"
    published = {"full": 5e-6, "lora": 1e-4, "pivotal": 1e-4, "textual_inversion": 5e-4, "hypernetwork": 5e-5}
    assert getattr(full_size, rate) == published[method]
    assert getattr(full_size, rate) < getattr(small, rate)
    if method is Method.FULL:
        assert full_size.token_learning_rate == full_size.learning_rate
    assert full_size.batch_size == 1
    assert small.batch_size == (8 if method is Method.TEXTUAL_INVERSION else 4)


@pytest.mark.parametrize("method", ["textual_inversion", "hypernetwork"])
def test_a_method_that_changes_its_own_part_alone_trains_no_text_encoder(method):
    with pytest.raises(InvalidConfiguration, match=f"{method} changes nothing but its own part"):
        parse_config({"method": method, "train_text_encoder": True}, base_resolution=512)


@pytest.mark.parametrize("method", ["full", "textual_inversion", "hypernetwork"])
def test_a_method_without_adapters_has_no_dora(method):
    with pytest.raises(InvalidConfiguration, match=f"{method} has no low-rank adapters"):
        parse_config({"method": method, "use_dora": True}, base_resolution=512)


def test_a_text_encoder_learns_at_its_own_rate_where_one_is_given():
    assert TrainingConfig(learning_rate=1e-4).rate_of_text_encoders == 1e-4
    assert TrainingConfig(text_encoder_learning_rate=5e-6).rate_of_text_encoders == 5e-6


@pytest.mark.parametrize(
    ("family", "method", "expected"),
    [
        (
            "stable-diffusion-xl",
            "lora",
            {"text_encoder_learning_rate": 5e-6, "gradient_accumulation_steps": 4, "resolution": 0},
        ),
        ("flux", "pivotal", {"rank": 16, "resolution": 512, "snr_gamma": 0.0, "mixed_precision": MixedPrecision.BF16}),
        ("flux", "full", {"rank": TrainingConfig.rank, "resolution": 0}),
        ("stable-diffusion-3", "lora", {"rank": 4, "snr_gamma": 0.0}),
    ],
)
def test_a_family_at_full_size_gets_what_its_recipes_say(family, method, expected):
    config = parse_config({"method": method}, base_resolution=1024, family=family)
    assert {key: getattr(config, key) for key in expected} == expected


def test_what_is_given_wins_over_the_defaults_of_the_base():
    config = parse_config({"method": "full", "steps": 7}, base_resolution=512)
    assert (config.steps, config.num_class_images) == (7, 200)


def test_without_values_the_pivotal_method_learns():
    assert parse_config({}, base_resolution=128) == TrainingConfig(
        method=Method.PIVOTAL,
        steps=250,
        batch_size=4,
        learning_rate=5e-3,
        token_learning_rate=5e-3,
        learning_rate_schedule=Schedule.COSINE,
        snr_gamma=0,
        prior_weight=1.4,
        prior_target=LossTarget.BASE,
        background_target=LossTarget.BASE,
        background_weight=0.9,
        background_replacement=0.75,
        num_class_images=24,
        class_inference_steps=16,
        num_vectors=4,
        horizontal_flip=HorizontalFlip.AUTO,
        class_captions=True,
    )


@pytest.mark.parametrize("told", [{"steps": "auto"}, {"choose_steps": True, "steps": 500}, {"preset": "best"}])
def test_where_steps_are_chosen_on_a_small_base_rates_stay(told):
    expected = TrainingConfig(
        method=Method.PIVOTAL,
        choose_steps=True,
        steps=500,
        batch_size=4,
        learning_rate=2e-3,
        token_learning_rate=2e-3,
        snr_gamma=0,
        prior_weight=1.4,
        prior_target=LossTarget.BASE,
        background_target=LossTarget.BASE,
        background_weight=0.9,
        background_replacement=0.75,
        num_class_images=24,
        class_inference_steps=16,
        num_vectors=4,
        class_captions=True,
        horizontal_flip=HorizontalFlip.AUTO,
    )
    assert parse_config(told, base_resolution=128) == expected


@pytest.mark.parametrize("key", [*BOUNDS, *CHOICES, *sorted(SWITCHES)])
def test_every_key_changes_the_digest(key):
    default = getattr(TrainingConfig(), key)
    if key in SWITCHES:
        other = not default
    elif key in CHOICES:
        other = next(choice for choice in CHOICES[key] if choice != default)
    else:
        other = next(value for value in BOUNDS[key] if value != default)
    assert dataclasses.replace(TrainingConfig(), **{key: other}).digest() != TrainingConfig().digest()
    assert dataclasses.replace(TrainingConfig(), **{key: default}).digest() == TrainingConfig().digest()


def test_a_configuration_survives_its_own_dictionary():
    config = parse_config({"method": "lora", "seed": 3, "learning_rate": "3e-4"}, base_resolution=64)
    assert parse_config(config.to_dict(), base_resolution=4096) == config


def test_a_stored_configuration_comes_back_with_the_types_of_its_keys():
    config = TrainingConfig(method=Method.LORA, use_dora=True, learning_rate=3e-4)
    read = TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read == config
    assert {key: type(value) for key, value in vars(read).items()} == {
        key: type(value) for key, value in vars(config).items()
    }
    older = {key: value for key, value in config.to_dict().items() if key != "num_vectors"}
    assert TrainingConfig.from_dict(older) == config


def test_prior_preservation_is_on_while_it_has_weight():
    assert TrainingConfig().uses_prior_preservation
    assert not TrainingConfig(prior_weight=0.0).uses_prior_preservation


@pytest.mark.parametrize(
    ("caption", "noun", "expected"),
    [
        ("", "apple", "a photo of a <t> apple"),
        ("a photo of an apple on a wooden table", "apple", "a photo of a <t> apple on a wooden table"),
        ("An apple", "apple", "a <t> apple"),
        ("Apple on grass", "apple", "<t> apple on grass"),
        ("two apples, warm light", "apple", "two <t> apples, warm light"),
        ("RED APPLES", "apple", "RED <t> appleS"),
        ("the apple's stem", "apple", "the <t> apple's stem"),
        ("on grass", "apple", "a photo of a <t> apple, on grass"),
        ("a pineapple", "apple", "a photo of a <t> apple, a pineapple"),
        ("an apple beside an apple", "apple", "a <t> apple beside an apple"),
    ],
)
def test_the_caption_names_the_phrase_instead_of_the_class(caption, noun, expected):
    assert instance_prompt(caption, noun, PHRASE) == expected


@pytest.mark.parametrize(
    ("caption", "noun", "expected"),
    [
        ("three tomatoes in a bowl", "tomato", "three <t> tomatoes in a bowl"),
        ("a bell pepper on blue tiles", "bell pepper", "a <t> bell pepper on blue tiles"),
        ("a pear", "pear", "a <t> pear"),
    ],
)
def test_other_nouns_and_plurals(caption, noun, expected):
    assert instance_prompt(caption, noun, f"<t> {noun}") == expected


@given(st.text(max_size=60))
def test_every_training_prompt_holds_the_phrase(caption):
    assert PHRASE in instance_prompt(caption, "apple", PHRASE)


def test_articles():
    assert with_article("apple") == "an apple"
    assert with_article("pear") == "a pear"
    assert class_prompt("orange") == "a photo of an orange"


def test_a_token_belongs_to_one_category_and_set():
    token = trained_token("sks_fuji_apple", "0" * 64)
    assert token == trained_token("sks_fuji_apple", "0" * 64)
    assert len({token, trained_token("sks_gala_apple", "0" * 64), trained_token("sks_fuji_apple", "1" * 64)}) == 3
    assert trained_phrase(token, "apple") == f"{token} apple"
    assert "sks" not in token


@pytest.mark.parametrize("resolution", [128, 1024])
@pytest.mark.parametrize("family", ["stable-diffusion", "stable-diffusion-xl", "flux"])
def test_prodigy_is_left_to_find_its_rates_unless_told_otherwise(family: str, resolution: int) -> None:
    config = parse_config({"optimizer": "prodigy"}, base_resolution=resolution, family=family)
    assert (config.learning_rate, config.rate_of_text_encoders, config.token_learning_rate) == (1.0, 1.0, 1.0)
    told = parse_config({"optimizer": "prodigy", "learning_rate": 0.5}, base_resolution=resolution, family=family)
    assert (told.learning_rate, told.rate_of_text_encoders, told.token_learning_rate) == (0.5, 0.5, 1.0)
