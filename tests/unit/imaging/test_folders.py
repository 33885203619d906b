"""Photos, captions and masks as users keep them."""

import json
from pathlib import Path

import pytest

from packshot.domain.errors import ImageRefused, InvalidInput, RefusalReason
from packshot.imaging import decode, folders
from packshot.imaging.decode import decode_reference
from packshot.imaging.folders import read_photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    (place / "inner").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "b_mask.png", ".hidden.jpg", "notes.md", "inner/c.jpg"):
        (place / name).write_bytes(name.encode())
    return place


def test_a_folder_gives_its_pictures_in_order_with_their_masks(folder: Path) -> None:
    photos = read_photos([folder])
    assert [(photo.file_name, photo.data, photo.mask) for photo in photos] == [
        ("a.PNG", b"a.PNG", None),
        ("b.jpg", b"b.jpg", b"b_mask.png"),
    ]


def test_files_are_taken_as_given_and_once(folder: Path) -> None:
    photos = read_photos([folder / "inner" / "c.jpg", folder, folder / "b.jpg", folder / "notes.md"])
    assert [photo.file_name for photo in photos] == ["c.jpg", "a.PNG", "b.jpg", "notes.md"]


def test_captions_come_from_text_files_before_the_list(folder: Path) -> None:
    rows = [{"file_name": "a.PNG", "text": "an apple\non wood"}, {"file_name": "b.jpg", "text": "from the list"}]
    (folder / "metadata.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "b.txt").write_text("\ufefffrom its own  file\n", encoding="utf-8")
    assert [photo.caption for photo in read_photos([folder])] == ["an apple on wood", "from its own file"]
    assert read_photos([folder / "a.PNG"])[0].caption == "an apple on wood"


def test_without_captions_they_are_empty(folder: Path) -> None:
    assert [photo.caption for photo in read_photos([folder])] == ["", ""]


@pytest.mark.parametrize("line", ["{", "[1]", "{}", '{"file_name": 3}', '{"file_name": "a", "text": 1}', "[" * 100_000])
def test_a_malformed_line_is_named(folder: Path, line: str) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "a.PNG"}\n\n' + line, encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"line 3 of .*metadata\.jsonl"):
        read_photos([folder])


def test_captions_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_photos([folder])


def test_an_endless_caption_file_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MAX_TEXT_BYTES", 10)
    (folder / "a.txt").write_text("x" * 11, encoding="utf-8")
    with pytest.raises(InvalidInput, match="11 bytes"):
        read_photos([folder])


def test_missing_and_empty_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        read_photos([tmp_path / "nowhere"])
    with pytest.raises(InvalidInput, match="holds no pictures"):
        read_photos([tmp_path])


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    for name in ("link.jpg", "a_mask.png", "a.txt", "metadata.jsonl"):
        (folder / name).symlink_to(secret)
    (folder / "inside.jpg").symlink_to(folder / "inner" / "c.jpg")
    photos = read_photos([folder])
    assert [photo.file_name for photo in photos] == ["a.PNG", "b.jpg", "inside.jpg"]
    assert (photos[0].mask, photos[0].caption) == (None, "")


def test_a_huge_file_is_read_only_so_far_as_to_refuse_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_FILE_BYTES", 10_000)
    monkeypatch.setattr(decode, "MAX_FILE_BYTES", 10_000)
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(2**40)
    photo = read_photos([folder / "huge.jpg"])[0]
    assert len(photo.data) == 10_001
    with pytest.raises(ImageRefused) as caught:
        decode_reference(photo.data, photo.file_name)
    assert caught.value.reason is RefusalReason.FILE_TOO_LARGE


def test_a_file_that_vanished_is_an_input_error(folder: Path) -> None:
    photo = read_photos([folder / "b.jpg"])[0]
    photo.path.unlink()
    with pytest.raises(InvalidInput, match=r"b\.jpg cannot be read"):
        _ = photo.data


@pytest.mark.parametrize("caption", ["<lora:x:1> apple", "<packshot-0123> apple", "an apple\x1b[2J", "＜lora:x:1＞"])
def test_a_caption_that_spells_a_model_token_is_refused(photo_folder, caption):
    folder = photo_folder(1)
    (folder / "00.txt").write_text(caption)
    with pytest.raises(InvalidInput, match="angle brackets"):
        read_photos([folder])
    (folder / "00.txt").unlink()
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "00.png", "text": caption}))
    with pytest.raises(InvalidInput, match="angle brackets"):
        read_photos([folder])
