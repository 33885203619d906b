import pytest

from packshot.domain.catalog import Category
from packshot.domain.errors import (
    CategoryExists,
    CategoryRetired,
    IdentifierTaken,
    InvalidIdentifier,
    InvalidInput,
    InvalidPath,
    NotFound,
)
from packshot.services.catalog import add_category, category_at, list_categories, retire_category
from packshot.services.models import promote


def test_a_category_is_added_with_a_derived_identifier_and_found_again(space):
    added = add_category(space.records, path="produce/apple/fuji", class_noun="apple")
    assert added.identifier == "sks_fuji_apple"
    assert category_at(space.records, "produce/apple/fuji") == added
    assert added.id.startswith("cat_")


def test_the_identifier_may_be_chosen(space):
    assert add_category(space.records, path="a/b", class_noun="apple", identifier="my_apple").identifier == "my_apple"


def test_the_namespace_is_the_first_word_and_keeps_catalogs_apart(space):
    for namespace in ("sks", "acme"):
        category = add_category(space.records, path="a/b", class_noun="apple", namespace=namespace)
        assert category.identifier == f"{namespace}_b_apple"
    assert [each.category.namespace for each in list_categories(space.records, "acme")] == ["acme"]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"path": "Produce//apple"}, InvalidPath),
        ({"class_noun": "Apple"}, InvalidInput),
        ({"identifier": "apple"}, InvalidIdentifier),
        ({"identifier": ""}, InvalidIdentifier),
        ({"path": "produce/apple/fuji"}, CategoryExists),
        ({"identifier": "SKS_Fuji_apple"}, IdentifierTaken),
        ({"identifier": "sks_fuji_app1e"}, IdentifierTaken),
        ({"identifier": "sks_fuji_аpple"}, IdentifierTaken),
        ({"path": "juice/apple/fuji"}, IdentifierTaken),
    ],
)
def test_what_is_refused_leaves_nothing(space, wanted, error):
    add_category(space.records, path="produce/apple/fuji", class_noun="apple")
    with pytest.raises(error):
        add_category(space.records, **{"path": "produce/apple/gala", "class_noun": "apple", **wanted})
    assert [each.path for each in space.records.find(Category)] == ["produce/apple/fuji"]


def test_an_unknown_path_names_near_matches(space):
    add_category(space.records, path="produce/apple/fuji", class_noun="apple")
    with pytest.raises(NotFound, match="did you mean produce/apple/fuji"):
        category_at(space.records, "produce/apple/fuij")
    with pytest.raises(NotFound, match="packshot category list"):
        category_at(space.records, "zzz")


def test_a_retired_category_keeps_path_and_identifier_for_ever(space):
    add_category(space.records, path="produce/apple/fuji", class_noun="apple")
    retired = retire_category(space.records, "produce/apple/fuji")
    assert retired.retired_at
    assert category_at(space.records, "produce/apple/fuji") == retired
    with pytest.raises(CategoryRetired, match="was retired at"):
        retire_category(space.records, "produce/apple/fuji")
    with pytest.raises(IdentifierTaken, match="never reused"):
        add_category(space.records, path="a/b", class_noun="apple", identifier="sks_fuji_apple")
    with pytest.raises(CategoryExists):
        add_category(space.records, path="produce/apple/fuji", class_noun="apple")


def test_the_list_is_by_path_and_counts_what_belongs_to_each(space):
    space.category("gala", 0)
    fuji = space.category("fuji", 5)
    space.fine_tune(fuji)
    promote(space.records, space.fine_tune(fuji), reason="a test")
    first, second = list_categories(space.records)
    assert [first.category.path, second.category.path] == ["produce/apple/fuji", "produce/apple/gala"]
    assert (first.num_references, first.num_refused, first.serving_version) == (5, 0, 2)
    assert first.newest_set
    assert first.newest_set.version == 1
    assert [each.version for each in first.fine_tunes] == [1, 2]
    assert (second.num_references, second.newest_set, second.fine_tunes, second.serving_version) == (0, None, (), None)
