from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packshot.domain.catalog import Category
from packshot.domain.errors import AmbiguousIdentifier, InvalidInput, InvalidPrompt, UnknownIdentifier
from packshot.domain.generation import SamplingSettings, find_subject, rewrite_prompt

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PHRASE = "<packshot-0123> apple"


def category(name: str, *, retired: bool = False) -> Category:
    return Category(
        id=f"cat_{name}",
        namespace="sks",
        path=f"produce/apple/{name}",
        class_noun="apple",
        identifier=f"sks_{name}_apple",
        created_at=NOW,
        retired_at=NOW if retired else None,
    )


CATALOG = [category("fuji"), category("gala"), category("royalgala"), category("cox", retired=True)]


def resolved(prompt: str) -> str:
    subject = find_subject(prompt, CATALOG)
    assert subject is not None
    assert subject.category.path == "produce/apple/fuji"
    return rewrite_prompt(prompt, subject, PHRASE)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("sks_fuji_apple", PHRASE),
        ("sks_fuji_apple on a wooden table", f"{PHRASE} on a wooden table"),
        ("a photo of sks_fuji_apple", f"a photo of {PHRASE}"),
        ("two of sks_fuji_apple, and sks_fuji_apple again", f"two of {PHRASE}, and {PHRASE} again"),
        ("SKS_Fuji_Apple on grass", f"{PHRASE} on grass"),
        ("(sks_fuji_apple), close-up", f"({PHRASE}), close-up"),
        ("sks_fuji_apple's stem", f"{PHRASE}'s stem"),
        ('"sks_fuji_apple"', f'"{PHRASE}"'),
        ("sks_fuji_apple.SKS_FUJI_APPLE", f"{PHRASE}.{PHRASE}"),
        ("line one\nsks_fuji_apple", f"line one\n{PHRASE}"),
        ("ｓｋｓ_ｆｕｊｉ_ａｐｐｌｅ on grass", f"{PHRASE} on grass"),
        ("ｓｋｓ＿ｆｕｊｉ＿ａｐｐｌｅ on grass", f"{PHRASE} on grass"),
    ],
)
def test_the_identifier_becomes_the_trained_phrase_wherever_it_stands(prompt, expected):
    assert resolved(prompt) == expected


# Whatever stands around it in prose: no underscore, no control character, no combining mark that would join the word.
prose = st.text(st.sampled_from("abc XYZ,.;:!?()[]'\"\\-+*/0189éßñ 苹果 \n\t"), max_size=40)


@given(prose, prose)
def test_nothing_of_the_identifier_is_left_and_the_rest_stays_as_it_was(before, after):
    before, after = f"{before} ", f" {after}"
    assert resolved(f"{before}sks_fuji_apple{after}") == f"{before}{PHRASE}{after}"


def test_a_phrase_with_backslashes_is_taken_literally():
    subject = find_subject("sks_fuji_apple", CATALOG)
    assert subject
    assert rewrite_prompt("sks_fuji_apple", subject, r"\1 \g<0>") == r"\1 \g<0>"


@pytest.mark.parametrize(
    "prompt", ["an apple on grass", "sks fuji apple", "sks-fuji-apple", "a - b", "_ alone", "fuji"]
)
def test_prose_names_no_subject(prompt):
    assert find_subject(prompt, CATALOG) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "sks_fujl_apple on grass",
        "sks_fuji_apples",
        "sks_fuji_аpple",
        "sks_fuij_apple",
        "sks_fuji",
        "sks_fuji_apple\u0301",
    ],
)
def test_an_unknown_identifier_is_an_error_that_names_the_near_one(prompt):
    with pytest.raises(UnknownIdentifier, match="did you mean .*sks_fuji_apple"):
        find_subject(prompt, CATALOG)


def test_an_identifier_near_nothing_points_to_the_list():
    with pytest.raises(UnknownIdentifier, match="'zzz_qqqq_wwww'; list the known ones with: packshot category list"):
        find_subject("zzz_qqqq_wwww on grass", CATALOG)


def test_a_retired_identifier_answers_no_more():
    with pytest.raises(UnknownIdentifier, match="sks_cox_apple"):
        find_subject("sks_cox_apple", CATALOG)


def test_the_beginning_of_several_identifiers_is_ambiguous_and_names_them():
    catalog = [category("pink"), category("fuji")]
    catalog[0] = Category(**{**vars(catalog[0]), "identifier": "sks_fuji_pear", "id": "cat_2"})
    with pytest.raises(AmbiguousIdentifier, match="sks_fuji_apple, sks_fuji_pear"):
        find_subject("sks_fuji on grass", catalog)


def test_an_identifier_that_begins_another_one_is_itself():
    catalog = [category("fuji"), Category(**{**vars(category("x")), "identifier": "sks_fuji_apple_juice"})]
    subject = find_subject("sks_fuji_apple", catalog)
    assert subject
    assert subject.category.identifier == "sks_fuji_apple"


def test_two_subjects_in_one_prompt_are_refused_by_name():
    with pytest.raises(InvalidPrompt, match="2 subjects .sks_fuji_apple, sks_gala_apple"):
        find_subject("sks_fuji_apple beside SKS_gala_apple", CATALOG)


@pytest.mark.parametrize("prompt", ["", "  \n", "x" * 1001])
def test_empty_and_endless_prompts_are_refused(prompt):
    with pytest.raises(InvalidPrompt):
        find_subject(prompt, CATALOG)


@pytest.mark.parametrize(
    "char",
    ["<", ">", "＜", "﹥", "\x00", "\x07", "\x0b", "\r", "\x1b", "\x7f", "\x9b", "\udcff"],
    ids=lambda char: f"U+{ord(char):04X}",
)
def test_model_tokens_and_control_characters_are_refused(char):
    with pytest.raises(InvalidPrompt, match="remove control characters and angle brackets"):
        find_subject(f"an apple {char} on grass", CATALOG)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("seed", 0, 2**32 - 1),
        ("num_images", 1, 1000),
        ("inference_steps", 1, 1000),
        ("guidance_scale", 0, 50),
        ("width", 0, 4096),
        ("height", 0, 4096),
    ],
)
def test_sampling_settings_have_bounds(name, low, high):
    for value in (low, high):
        assert getattr(SamplingSettings(**{name: value}), name) == value
    for beyond in ({name: low - 1}, {name: high + 1}):
        with pytest.raises(InvalidInput, match=f"{name} is .* between {low} and {high}"):
            SamplingSettings(**beyond)


def test_a_guidance_scale_that_is_no_number_is_refused():
    with pytest.raises(InvalidInput, match="guidance_scale is nan"):
        SamplingSettings(guidance_scale=float("nan"))


@pytest.mark.parametrize(("side", "pixels", "near"), [("width", 101, 104), ("height", 3, 8)])
def test_a_picture_size_is_a_multiple_of_eight(side, pixels, near):
    with pytest.raises(InvalidInput, match=f"{side} is {pixels}; .* multiple of 8 pixels, say {near}"):
        SamplingSettings(**{side: pixels})


@pytest.mark.parametrize("negative", ["<packshot-0123>", "a\x00b", "x" * 1001])
def test_the_negative_prompt_obeys_the_same_rules(negative):
    with pytest.raises(InvalidPrompt):
        SamplingSettings(negative_prompt=negative)


def test_a_negative_prompt_may_be_empty_but_names_no_subject():
    assert SamplingSettings(negative_prompt="").negative_prompt == ""
    with pytest.raises(InvalidPrompt, match="sks_fuji_apple.*negative"):
        SamplingSettings(negative_prompt="blurred sks_fuji_apple")
