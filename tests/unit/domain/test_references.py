from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packshot.domain.errors import ReferenceSetRefused
from packshot.domain.references import ReferenceImage, check_freezable, choose_held_out, set_digest


def photos(count: int) -> list[ReferenceImage]:
    return [
        ReferenceImage(
            id=f"ref_{number}",
            category_id="cat_1",
            file_name=f"{number}.jpg",
            original=f"{number:064}",
            image=f"{(number * 7919) % 10007:064}",
            caption=f"photo {number}",
            added_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for number in range(count)
    ]


@given(st.permutations(photos(12)))
def test_neither_split_nor_digest_depends_on_the_order(shuffled):
    held_out = choose_held_out(photos(12))
    assert sorted(choose_held_out(shuffled)) == sorted(held_out)
    assert set_digest(shuffled, held_out) == set_digest(photos(12), held_out)


def test_the_split_does_not_depend_on_the_ids():
    renamed = [replace(photo, id=f"other_{photo.id}") for photo in photos(10)]
    assert choose_held_out(renamed) == tuple(f"other_{id_}" for id_ in choose_held_out(photos(10)))
    assert set_digest(renamed, choose_held_out(renamed)) == set_digest(photos(10), choose_held_out(photos(10)))


@pytest.mark.parametrize("change", [{"image": "f" * 64}, {"mask": "e" * 64}, {"caption": "another"}])
def test_whatever_training_sees_changes_the_digest(change):
    before = photos(6)
    assert set_digest([replace(before[0], **change), *before[1:]], ()) != set_digest(before, ())


def test_the_role_of_a_photo_changes_the_digest():
    assert set_digest(photos(8), ("ref_1",)) != set_digest(photos(8), ("ref_2",))


def test_what_training_does_not_see_leaves_the_digest():
    before = photos(6)
    renamed = [replace(photo, file_name="x.png", original="d" * 64) for photo in before]
    assert set_digest(renamed, ()) == set_digest(before, ())


@pytest.mark.parametrize(("count", "held_out"), [(5, 0), (7, 0), (8, 1), (9, 1), (10, 2), (15, 3), (30, 6)])
def test_one_in_five_is_held_out_from_eight_photos_up(count, held_out):
    chosen = choose_held_out(photos(count))
    assert len(set(chosen)) == held_out


@pytest.mark.parametrize("count", [5, 30])
def test_five_to_thirty_photos_make_a_set(count):
    check_freezable(photos(count), "produce/apple/fuji")


@pytest.mark.parametrize(("count", "limit"), [(0, "at least 5"), (4, "at least 5"), (31, "at most 30")])
def test_fewer_or_more_do_not_and_the_message_says_how_to_mend_it(count, limit):
    with pytest.raises(
        ReferenceSetRefused, match=f"produce/apple/fuji has {count} usable .*{limit}.*packshot references"
    ):
        check_freezable(photos(count), "produce/apple/fuji")
