import os
from dataclasses import replace

import pytest
from photos import GREEN, save_photo
from PIL import Image

from packshot.domain.errors import CategoryRetired, Conflict, InvalidInput, NotFound, ReferenceSetRefused, RefusalReason
from packshot.domain.references import MAX_IMAGES, ReferenceImage, ReferenceSet, Rights
from packshot.imaging.decode import MAX_FILE_BYTES
from packshot.imaging.folders import read_photos
from packshot.services.catalog import retire_category, summarise
from packshot.services.references import (
    add_references,
    caption_references,
    check_references,
    freeze_references,
    remove_references,
)

RIGHTS = Rights(source="our studio", license="CC0-1.0")


@pytest.fixture
def category(space):
    return space.category("gala", 0)


def added(space, category, *paths, rights=RIGHTS):
    return add_references(space.records, space.blobs, category, read_photos(list(paths)), rights)


def test_good_photos_are_accepted_with_their_bytes_size_caption_mask_and_rights(space, category):
    folder = space.photos(2)
    (folder / "00.txt").write_text("an apple\non grass")
    Image.new("L", (160, 160), 0).save(folder / "00_mask.png")
    with Image.open(folder / "00_mask.png") as mask:
        mask.paste(255, (40, 40, 120, 120))
        mask.save(folder / "00_mask.png")
    first, second = added(space, category, folder)
    assert first.accepted
    assert second.accepted
    assert space.blobs.get(first.original) == (folder / "00.png").read_bytes()
    assert space.blobs.get(first.image or "").startswith(b"\x89PNG")
    assert (first.width, first.height, first.caption, first.rights) == (160, 160, "an apple on grass", RIGHTS)
    assert first.mask
    assert first.mask in space.blobs
    assert (second.caption, second.mask) == ("", None)
    assert space.records.find(ReferenceImage) == [first, second]


def test_a_file_that_is_no_picture_is_refused_and_its_bytes_are_kept(space, category):
    file = space.folder / "photo.jpg"
    file.write_text("this is not a photo")
    (refused,) = added(space, category, file)
    assert refused.refusal is RefusalReason.UNSUPPORTED_FORMAT
    assert "photo.jpg" in refused.explanation
    assert "plain text" in refused.explanation
    assert refused.image is None
    assert space.blobs.get(refused.original) == b"this is not a photo"
    assert list(space.blobs) == [refused.original]


def test_a_file_that_is_too_large_is_refused_and_not_kept(space, category):
    file = space.folder / "huge.jpg"
    with file.open("wb") as stream:
        os.truncate(stream.fileno(), MAX_FILE_BYTES + 1)
    (refused,) = added(space, category, file)
    assert refused.refusal is RefusalReason.FILE_TOO_LARGE
    assert list(space.blobs) == []
    assert added(space, category, file) == [refused]


def test_one_refused_photo_does_not_spoil_the_others(space, category):
    folder = space.photos(3)
    (folder / "01.png").write_bytes((folder / "01.png").read_bytes()[:200])
    taken = added(space, category, folder)
    assert [image.refusal for image in taken] == [None, RefusalReason.TRUNCATED, None]


def test_a_bad_mask_is_named_as_the_culprit(space, category):
    folder = space.photos(1)
    Image.new("L", (160, 160), 0).save(folder / "00_mask.png")
    (refused,) = added(space, category, folder)
    assert refused.refusal
    assert "the mask of 00.png" in refused.explanation


def test_adding_the_same_folder_again_changes_nothing(space, category):
    folder = space.photos(4)
    once = added(space, category, folder)
    assert added(space, category, folder) == once
    assert len(space.records.find(ReferenceImage)) == 4


def test_the_same_photo_may_serve_two_categories(space, category):
    folder = space.photos(1)
    other = space.category("cox", 0)
    assert added(space, category, folder)[0].id != added(space, other, folder)[0].id


def test_a_near_duplicate_is_refused_with_the_name_of_the_other(space, category):
    folder = space.photos(1)
    with Image.open(folder / "00.png") as image:
        image.convert("RGB").save(folder / "copy.jpg", quality=60)
    first, second = added(space, category, folder)
    assert first.accepted
    assert second.refusal is RefusalReason.NEAR_DUPLICATE
    assert "00.png" in second.explanation


def test_a_near_duplicate_is_found_when_other_folders_hold_files_of_the_same_name(space, category):
    one, two, copies = (space.folder / name for name in ("one", "two", "copies"))
    for folder, seed in ((one, 1), (two, 2)):
        folder.mkdir()
        save_photo(folder / "photo.png", seed)
    copies.mkdir()
    with Image.open(one / "photo.png") as image:
        image.convert("RGB").save(copies / "copy.jpg", quality=60)
    assert all(image.accepted for image in added(space, category, one, two))
    (copy,) = added(space, category, copies)
    assert copy.refusal is RefusalReason.NEAR_DUPLICATE


def test_a_file_that_cannot_be_read_is_an_error(space, category):
    photos = read_photos([space.photos(1)])
    photos = [replace(photos[0], path=space.folder / "gone.png")]
    with pytest.raises(InvalidInput, match="gone.png"):
        add_references(space.records, space.blobs, category, photos, RIGHTS)
    assert space.records.find(ReferenceImage) == []


@pytest.mark.parametrize(("count", "limit"), [(4, "at least 5"), (31, "at most 30")])
def test_too_few_or_too_many_photos_freeze_nothing(space, category, count, limit):
    added(space, category, space.photos(count))
    with pytest.raises(ReferenceSetRefused, match=f"{count} usable .*{limit}"):
        freeze_references(space.records, category)
    assert space.records.find(ReferenceSet) == []


def test_refused_photos_do_not_count(space, category):
    folder = space.photos(5)
    (folder / "04.png").write_text("no picture")
    added(space, category, folder)
    with pytest.raises(ReferenceSetRefused, match="4 usable"):
        freeze_references(space.records, category)


def test_a_frozen_set_holds_the_accepted_photos_and_a_split(space, category):
    taken = added(space, category, space.photos(10))
    frozen = freeze_references(space.records, category)
    assert frozen.version == 1
    assert set(frozen.image_ids) == {image.id for image in taken}
    assert len(frozen.held_out_ids) == 2
    assert set(frozen.held_out_ids) < set(frozen.image_ids)


def test_freezing_again_without_a_change_is_the_same_set(space, category):
    added(space, category, space.photos(6))
    frozen = freeze_references(space.records, category)
    assert freeze_references(space.records, category) == frozen
    assert space.records.find(ReferenceSet) == [frozen]


def test_another_photo_makes_another_version_and_leaves_the_first(space, category):
    added(space, category, space.photos(5))
    first = freeze_references(space.records, category)
    added(space, category, space.photos(1, start=5))
    second = freeze_references(space.records, category)
    assert (second.version, len(second.image_ids)) == (2, 6)
    assert second.digest != first.digest
    assert space.records.get(ReferenceSet, first.id) == first


def test_the_same_content_has_the_same_digest_in_every_category(space, category):
    folder = space.photos(8)
    other = space.category("cox", 0)
    for each in (category, other):
        added(space, each, folder)
    assert freeze_references(space.records, category).digest == freeze_references(space.records, other).digest


def removed(space, category, *names):
    return remove_references(space.records, space.blobs, category, names)


def test_photos_that_no_set_holds_are_forgotten_by_name_or_id(space, category):
    taken = added(space, category, space.photos(7))
    assert removed(space, category, "05.png", taken[6].id, "06.png") == taken[5:]
    assert space.records.find(ReferenceImage) == taken[:5]
    with pytest.raises(NotFound, match="'05.png'"):
        removed(space, category, "05.png")


def test_a_photo_that_a_set_holds_leaves_the_next_set_and_stays_in_that_one(space, category):
    taken = added(space, category, space.photos(6))
    first = freeze_references(space.records, category)
    (withdrawn,) = removed(space, category, "01.png")
    assert (withdrawn.id, withdrawn.refusal) == (taken[1].id, RefusalReason.WITHDRAWN)
    assert space.records.get(ReferenceSet, first.id) == first
    assert check_references(space.records, category).accepted == (taken[0], *taken[2:])
    second = freeze_references(space.records, category)
    assert set(second.image_ids) == set(first.image_ids) - {withdrawn.id}
    with pytest.raises(NotFound, match="'01.png' to take out"):
        removed(space, category, "01.png")


def test_a_full_category_can_swap_a_photo_after_a_set_was_frozen(space, category):
    added(space, category, space.photos(MAX_IMAGES))
    freeze_references(space.records, category)
    added(space, category, space.photos(1, name="better", start=50))
    with pytest.raises(ReferenceSetRefused, match=f"packshot references remove {category.path} FILE-NAME"):
        freeze_references(space.records, category)
    removed(space, category, "03.png")
    second = freeze_references(space.records, category)
    names = {space.records.get(ReferenceImage, id_).file_name for id_ in second.image_ids}
    assert len(second.image_ids) == MAX_IMAGES
    assert "50.png" in names
    assert "03.png" not in names


def test_taking_a_photo_out_again_makes_a_newer_set_even_where_an_older_one_is_equal(space, category):
    added(space, category, space.photos(5))
    first = freeze_references(space.records, category)
    added(space, category, space.photos(1, start=5))
    freeze_references(space.records, category)
    removed(space, category, "05.png")
    third = freeze_references(space.records, category)
    assert (third.version, third.digest) == (3, first.digest)
    assert summarise(space.records, category).newest_set == third


def test_a_withdrawn_photo_that_is_added_again_takes_part_again(space, category):
    folder = space.photos(6)
    taken = added(space, category, folder)
    first = freeze_references(space.records, category)
    removed(space, category, "02.png")
    assert added(space, category, folder) == taken
    assert freeze_references(space.records, category) == first


def test_a_file_name_that_two_photos_have_names_neither(space, category):
    folders = [space.folder / "one", space.folder / "two"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        save_photo(folder / "photo.png", seed)
    one, two = added(space, category, *folders)
    with pytest.raises(Conflict, match=f"{one.id}, {two.id}"):
        removed(space, category, "photo.png")
    removed(space, category, two.id)
    assert space.records.find(ReferenceImage) == [one]


def test_of_several_photos_all_are_taken_out_or_none(space, category):
    taken = added(space, category, space.photos(3))
    with pytest.raises(NotFound, match="'09.png'"):
        removed(space, category, "00.png", "09.png")
    assert space.records.find(ReferenceImage) == taken


def save_copies(source, folder, *qualities):
    folder.mkdir(exist_ok=True)
    with Image.open(source) as image:
        for quality in qualities:
            image.convert("RGB").save(folder / f"copy{quality}.jpg", quality=quality)
    return folder


@pytest.mark.parametrize("frozen", [False, True])
def test_a_near_duplicate_is_accepted_once_the_other_one_is_gone(space, category, frozen):
    folder = space.photos(6)
    added(space, category, folder)
    added(space, category, save_copies(folder / "00.png", space.folder / "copies", 60, 70))
    if frozen:
        freeze_references(space.records, category)
    removed(space, category, "00.png")
    (first,) = space.records.find(ReferenceImage, file_name="copy60.jpg")
    (second,) = space.records.find(ReferenceImage, file_name="copy70.jpg")
    assert (first.refusal, first.explanation) == (None, "")
    assert second.refusal is RefusalReason.NEAR_DUPLICATE
    assert "as copy60.jpg;" in second.explanation
    (again,) = added(space, category, folder / "00.png")
    assert again.refusal is RefusalReason.NEAR_DUPLICATE


@pytest.mark.parametrize(
    ("count", "freezable", "advice"),
    [(3, False, "at least 5"), (6, True, "none is held out"), (12, True, None), (31, False, "until 30 are left")],
)
def test_the_report_says_what_would_make_the_set_better(space, category, count, freezable, advice):
    added(space, category, space.photos(count))
    report = check_references(space.records, category)
    assert report.freezable is freezable
    assert len(report.accepted) == count
    assert len(report.advice) == (advice is not None)
    assert advice is None or advice in report.advice[0]


def test_a_retired_category_takes_no_photos_and_freezes_none_but_lets_them_go(space, category):
    added(space, category, space.photos(6))
    retired = retire_category(space.records, category.path)
    with pytest.raises(CategoryRetired):
        added(space, retired, space.photos(1, start=6))
    with pytest.raises(CategoryRetired):
        freeze_references(space.records, retired)
    removed(space, retired, "05.png")
    assert len(space.records.find(ReferenceImage)) == 5
    assert space.records.find(ReferenceSet) == []


def test_missing_rights_are_reported(space, category):
    added(space, category, space.photos(8), rights=Rights())
    (advice,) = check_references(space.records, category).advice
    assert "licence" in advice


GROUNDS = ("on a red cloth", "on a green lawn", "on blue tiles")


def captioned(space, category, settings=GROUNDS):
    return caption_references(space.records, space.blobs, space.judge, category, settings)


def captions(space, images) -> dict[str, str]:
    return {image.file_name: image.caption for image in images}


def test_photos_without_a_caption_get_the_setting_that_the_judge_sees(space, category):
    folder = space.photos(2, colour=GREEN)
    (folder / "00.txt").write_text("an apple by hand")
    added(space, category, folder)
    (changed,) = captioned(space, category)
    assert (changed.file_name, changed.caption) == ("01.png", "a photo of an apple on a green lawn")
    assert captions(space, space.records.find(ReferenceImage)) == {
        "00.png": "an apple by hand",
        "01.png": "a photo of an apple on a green lawn",
    }
    assert captioned(space, category) == []


def test_a_frozen_set_keeps_its_photos_without_captions_and_the_next_one_has_them(space, category):
    folder = space.photos(5, colour=GREEN)
    added(space, category, folder)
    frozen = freeze_references(space.records, category)
    captioned(space, category)
    kept = [space.records.get(ReferenceImage, id_) for id_ in frozen.image_ids]
    assert {image.caption for image in kept} == {""}
    again = added(space, category, folder)
    assert all(image.accepted and image.caption == "a photo of an apple on a green lawn" for image in again)
    following = freeze_references(space.records, category)
    assert following.version == 2
    assert set(following.image_ids) == {image.id for image in again}


def test_refused_photos_get_no_caption(space, category):
    (space.folder / "bad.jpg").write_text("no photo")
    added(space, category, space.folder / "bad.jpg")
    assert captioned(space, category) == []


@pytest.mark.parametrize("settings", [(), ("on a red cloth", "  ")])
def test_captioning_needs_settings(space, category, settings):
    added(space, category, space.photos(1))
    with pytest.raises(InvalidInput, match="such as 'in a grocery store'"):
        captioned(space, category, settings)
    assert space.records.find(ReferenceImage)[0].caption == ""


def test_a_retired_category_gets_no_captions(space, category):
    added(space, category, space.photos(1))
    with pytest.raises(CategoryRetired):
        captioned(space, retire_category(space.records, category.path))
