from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packshot.domain.catalog import (
    Category,
    check_available,
    check_class_noun,
    check_identifier,
    check_in_use,
    check_path,
    derive_identifier,
    fold_look_alikes,
)
from packshot.domain.errors import CategoryRetired, IdentifierTaken, InvalidIdentifier, InvalidInput, InvalidPath

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def category(identifier: str, *, retired: bool = False) -> Category:
    return Category(
        id=f"cat_{identifier}",
        namespace="sks",
        path="produce/apple/fuji",
        class_noun="apple",
        identifier=identifier,
        created_at=NOW,
        retired_at=NOW if retired else None,
    )


@pytest.mark.parametrize("path", ["apple", "produce/apple/honeycrisp", "a/b/c/d/e/f", "drinks/7-up", "x/pink-lady-2"])
def test_a_path_is_lower_case_segments(path):
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/apple",
        "apple/",
        "produce//apple",
        "Produce/apple",
        "produce/pink lady",
        "produce/pink_lady",
        "produce/-apple",
        "produce/pink--lady",
        "../apple",
        "a/b/c/d/e/f/g",
        "produce/äpfel",
        "apple\n",
        "a" * 201,
    ],
)
def test_any_other_path_is_refused_and_quoted(path):
    with pytest.raises(InvalidPath, match="is not a category path") as caught:
        check_path(path)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("noun", ["apple", "bell pepper", "t-shirt"])
def test_a_class_noun_is_plain_words(noun):
    assert check_class_noun(noun) == noun


@pytest.mark.parametrize(
    "noun", ["", "Apple", "apple ", "an  apple", "red bell pepper box", "apple7", "<apple>", "a" * 41]
)
def test_any_other_class_noun_is_refused(noun):
    with pytest.raises(InvalidInput, match="is not a class noun"):
        check_class_noun(noun)


@pytest.mark.parametrize("identifier", ["sks_apple", "sks_honeycrisp_apple", "v2_7up_soda", "a_" + "b" * 62])
def test_an_identifier_is_words_joined_by_underscores(identifier):
    assert check_identifier(identifier) == identifier


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "apple",
        "_apple",
        "sks_",
        "sks__apple",
        "SKS_apple",
        "7_up",
        "sks_аpple",
        "sks-apple",
        "sks apple",
        "a_" + "b" * 63,
    ],
)
def test_any_other_identifier_is_refused(identifier):
    with pytest.raises(InvalidIdentifier, match="is not an identifier"):
        check_identifier(identifier)


@pytest.mark.parametrize(
    ("path", "noun", "identifier"),
    [
        ("produce/apple/honeycrisp", "apple", "sks_honeycrisp_apple"),
        ("produce/apple", "apple", "sks_apple"),
        ("produce/pepper/green-bell", "bell pepper", "sks_greenbell_bellpepper"),
        ("clothes/t-shirt", "t-shirt", "sks_tshirt"),
        ("drinks/7up", "soda", "sks_7up_soda"),
    ],
)
def test_the_identifier_comes_from_the_last_segment_and_the_noun(path, noun, identifier):
    assert derive_identifier(path, noun) == identifier


segment = st.from_regex(r"[a-z0-9]{1,6}(-[a-z0-9]{1,6}){0,2}", fullmatch=True)
nouns = st.from_regex(r"[a-z]{1,8}([ -][a-z]{1,8})?", fullmatch=True)


@given(st.lists(segment, min_size=1, max_size=4), nouns)
def test_what_is_derived_from_valid_names_is_a_valid_identifier(segments, noun):
    path = check_path("/".join(segments))
    derived = derive_identifier(path, check_class_noun(noun))
    assert check_identifier(derived) == derived


@pytest.mark.parametrize(
    "spelling",
    [
        "SKS_Honeycrisp_Apple",
        "ｓｋｓ＿ｈｏｎｅｙｃｒｉｓｐ＿ａｐｐｌｅ",
        "sks_honeycrisp_аррle",
        "sks_hοneycrisp_apple",
        "sks_h0neycrisp_apple",
        "sks_honeycrisp_app1e",
        "sks_honeycrısp_apple",
        "sks_hօneycrisp_apple",
        "SKS_НONEYCRISP_APPLE",
        "sks_honeycrísp_apple",
        "𝐬𝐤𝐬_honeycrisp_apple",
    ],
)
def test_spellings_that_the_eye_takes_for_one_fold_to_one(spelling):
    assert fold_look_alikes(spelling) == fold_look_alikes("sks_honeycrisp_apple")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sks_corn_x", "sks_com_x"),
        ("sks_modern_x", "sks_modem_x"),
        ("sks_vv_x", "sks_w_x"),
        ("sks_clove_x", "sks_dove_x"),
        ("sks_apple5_x", "sks_apples_x"),
        ("sks_3_x", "sks_e_x"),
        ("sks_8_x", "sks_b_x"),
        ("sks_chili_x", "sks_chill_x"),
        ("sks_tail_x", "sks_tall_x"),
    ],
)
def test_names_that_are_merely_similar_stay_apart(one, other):
    assert fold_look_alikes(one) != fold_look_alikes(other)
    check_available(one, [category(other)])


def test_ordinary_names_stay_apart():
    names = [
        "fuji",
        "gala",
        "golden",
        "granny-smith",
        "pink-lady",
        "honeycrisp",
        "royal-gala",
        "braeburn",
        "jonagold",
        "red-delicious",
        "cox",
        "pear",
        "peach",
        "plum",
        "lime",
        "lemon",
        "melon",
        "lettuce",
        "leek",
        "beet",
        "beer",
        "bear",
        "milk",
        "mild",
        "malt",
        "salt",
        "cola",
        "coke",
        "cake",
        "lake",
        "orange",
        "mango",
        "kiwi",
        "papaya",
        "onion",
        "corn",
        "carrot",
        "oat",
        "oats",
        "rice",
        "rye",
        "wine",
        "vine",
        "type-1",
        "type-2",
        "type-3",
        "sku-10",
        "sku-19",
        "sku-24",
        "sku-42",
        "sku-67",
        "sku-76",
        "sku-69",
        "sku-96",
        "v1",
        "v2",
        "v3",
        "v4",
        "v5",
        "v6",
        "v7",
        "v8",
        "v9",
        "v0",
    ]
    folds = {fold_look_alikes(derive_identifier(f"produce/{name}", "item")) for name in names}
    assert len(folds) == len(names)


@given(st.text(max_size=20))
def test_folding_a_fold_of_plain_letters_changes_nothing_more(text):
    once = fold_look_alikes(f"sks_{text}")
    assert fold_look_alikes(once.upper()) == fold_look_alikes(once)


@given(st.integers(0, 99_999), st.integers(0, 99_999))
def test_two_article_numbers_never_look_alike(one, other):
    assert (fold_look_alikes(f"sks_{one:05}") == fold_look_alikes(f"sks_{other:05}")) == (one == other)


def test_an_identifier_that_looks_like_one_in_use_is_taken_and_the_message_names_it():
    with pytest.raises(
        IdentifierTaken, match=r"sks_h0neycrisp_apple.*sks_honeycrisp_apple. of produce/apple/fuji.*in use"
    ):
        check_available("sks_h0neycrisp_apple", [category("sks_honeycrisp_apple")])


@pytest.mark.parametrize("spelling", ["sks_appIe_x", "sks_app1e_x", "SKS_APPLE_X", "sks_аpple_x"])
def test_a_spelling_that_is_read_as_one_in_use_is_taken(spelling):
    with pytest.raises(IdentifierTaken, match="cannot be told from 'sks_apple_x'"):
        check_available(spelling, [category("sks_apple_x")])


def test_a_capital_i_is_an_i_too():
    with pytest.raises(IdentifierTaken):
        check_available("SKS_HONEYCRISP_X", [category("sks_honeycrisp_x")])


def test_a_retired_category_is_not_in_use():
    fuji = category("sks_fuji_apple")
    assert check_in_use(fuji) is fuji
    with pytest.raises(CategoryRetired, match="produce/apple/fuji was retired at 2026-01-01 00:00 UTC"):
        check_in_use(category("sks_fuji_apple", retired=True))


def test_a_retired_identifier_is_never_reused():
    with pytest.raises(IdentifierTaken, match="never reused"):
        check_available("sks_fuji_apple", [category("sks_fuji_apple", retired=True)])


def test_another_identifier_is_available():
    check_available("sks_gala_apple", [category("sks_fuji_apple"), category("sks_cox_apple", retired=True)])
