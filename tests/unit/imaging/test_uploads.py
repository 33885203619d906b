"""Faults 17 and 18 at the intake of uploads: bombs, and names that lead elsewhere."""

import io
import random
import resource
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from packshot.domain.errors import UploadRefused
from packshot.imaging import uploads
from packshot.imaging.decode import MAX_FILE_BYTES
from packshot.imaging.uploads import MAX_FILES, Intake

UNSAFE = [
    "",
    " ",
    ".",
    "..",
    ".hidden.png",
    "../1.png",
    "/etc/1.png",
    "a/1.png",
    "a\\1.png",
    "C:\\1.png",
    "1.png\0.txt",
    "1\n.png",
    "\x7f.png",
    "%2e%2e%2f1.png",
    "..%5c1.png",
    "%00.png",
    "%252e%252e%252f1.png",
    "\uff052e\uff052e\uff052f1.png",
    "\uff0e\uff0e\uff0f1.png",
    "\u2025/1.png",
    "1\u202egnp.exe",
    "\udcff.png",
    "x" * 201,
    "ü" * 101,
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    folder.mkdir()
    return folder


def archive(*entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as zipped:
        for name, content in entries:
            zipped.writestr(name, content)
    data.seek(0)
    return data


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def nothing_outside(folder: Path) -> bool:
    return [path for path in folder.parent.rglob("*") if folder not in (path, *path.parents)] == []


def test_files_are_taken_by_name(folder):
    intake = Intake(folder)
    for name in ("1.png", "2. Äpfel (rot).JPG", "notes.txt"):
        intake.take(name, io.BytesIO(name.encode()))
    assert names(folder) == ["1.png", "2. Äpfel (rot).JPG", "notes.txt"]
    assert (folder / "1.png").read_bytes() == b"1.png"


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_name_is_refused(folder, name):
    with pytest.raises(UploadRefused, match=r"file name"):
        Intake(folder).take(name, io.BytesIO(b"x"))
    assert names(folder) == []
    assert nothing_outside(folder)


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "a/../../1.png", "a//1.png", "a\\1.png", "%2e%2e/1.png"])
def test_an_entry_that_leads_out_of_its_archive_is_refused(folder, name):
    with pytest.raises(UploadRefused, match=r"is not a path inside the archive"):
        Intake(folder).take("photos.zip", archive((name, b"x")))
    assert names(folder) == []
    assert nothing_outside(folder)


def test_an_entry_with_a_null_in_its_name_is_refused(folder):
    data = archive(("1.pngX.txt", b"x")).getvalue().replace(b"1.pngX.txt", b"1.png\0.txt")
    with pytest.raises(UploadRefused):
        Intake(folder).take("photos.zip", io.BytesIO(data))
    assert names(folder) == []


def test_a_link_in_an_archive_is_refused(folder):
    link = zipfile.ZipInfo("1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UploadRefused, match="is a link"):
        Intake(folder).take("photos.zip", archive((link, b"/etc/passwd")))
    assert names(folder) == []


def test_an_archive_is_flattened_and_hidden_files_passed_over(folder):
    entries = [
        ("photos/1.png", b"1"),
        ("photos/more/2.png", b"2"),
        ("__MACOSX/photos/._1.png", b"x"),
        (".DS_Store", b"x"),
    ]
    Intake(folder).take("photos.ZIP", archive(*entries, ("photos/", b"")))
    assert names(folder) == ["1.png", "2.png"]


def test_an_archive_inside_an_archive_stays_one(folder):
    Intake(folder).take("photos.zip", archive(("inner.zip", archive(("1.png", b"x")).getvalue())))
    assert names(folder) == ["inner.zip"]


def test_two_files_of_one_name_are_refused(folder):
    with pytest.raises(UploadRefused, match=r"two files are called '1.png'"):
        Intake(folder).take("photos.zip", archive(("a/1.png", b"x"), ("b/1.png", b"y")))


def encrypted() -> bytes:
    data = bytearray(archive(("1.png", b"x")).getvalue())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def damaged() -> bytes:
    data = bytearray(archive(("1.png", bytes(range(256)) * 9), compression=zipfile.ZIP_STORED).getvalue())
    data[100] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        archive(("1.png", b"x" * 99)).getvalue()[:-30],
        archive(("1.png", b"x"), compression=zipfile.ZIP_LZMA).getvalue(),
        archive(("1.png", b"x"), compression=zipfile.ZIP_BZIP2).getvalue(),
        encrypted(),
        damaged(),
    ],
    ids=["empty", "picture", "head", "cut off", "lzma", "bzip2", "encrypted", "damaged"],
)
def test_what_is_no_plain_archive_is_refused(folder, data):
    with pytest.raises(UploadRefused, match=r"photos\.zip"):
        Intake(folder).take("photos.zip", io.BytesIO(data))


def memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_million_entries_are_refused_before_they_are_read(folder):
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 4, 0)
    data = io.BytesIO(b"PK\x03\x04" + directory + end)
    before = memory_bytes()
    with pytest.raises(UploadRefused, match=f"more than {MAX_FILES} entries"):
        Intake(folder).take("photos.zip", data)
    assert memory_bytes() - before < 64 * 2**20
    assert names(folder) == []


def test_a_bomb_is_unpacked_to_the_bound_of_a_file_and_no_further(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 1000)
    Intake(folder).take("photos.zip", archive(("1.png", random.Random(0).randbytes(10_000))))
    assert (folder / "1.png").stat().st_size == 1001
    assert MAX_FILE_BYTES > 1000


@pytest.mark.parametrize("count", [1, 20])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused_before_it_is_unpacked(folder, count):
    bombs = [(f"{number}.png", b"\0" * (60_000_000 // count)) for number in range(count)]
    with pytest.raises(UploadRefused, match=r"photos\.zip unpacks to 57 MiB, more than 20 times its own size"):
        Intake(folder).take("photos.zip", archive(*bombs))
    assert names(folder) == []


def test_masks_that_pack_well_are_taken_where_they_are_not_many(folder):
    Intake(folder).take("photos.zip", archive(("1_mask.bmp", b"\0" * 10_000_000)))
    assert names(folder) == ["1_mask.bmp"]


def test_an_entry_that_is_larger_than_its_directory_says_is_refused(folder):
    data = archive(("1.png", b"\0" * 1_000_000)).getvalue()
    lying = data.replace((1_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    with pytest.raises(UploadRefused, match=r"photos\.zip cannot be unpacked"):
        Intake(folder).take("photos.zip", io.BytesIO(lying))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1000


def test_many_small_bombs_are_refused_together(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UNPACKED_BYTES", 5_000_000)
    bombs = [(f"{number}.png", b"\0" * 1_000_000) for number in range(9)]
    with pytest.raises(UploadRefused, match="of photos at once"):
        Intake(folder).take("photos.zip", archive(*bombs))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5_000_000


def test_too_many_files_are_refused(folder):
    intake = Intake(folder)
    for number in range(MAX_FILES):
        intake.take(f"{number}.png", io.BytesIO(b"x"))
    with pytest.raises(UploadRefused, match=f"more than {MAX_FILES} files"):
        intake.take("one-more.png", io.BytesIO(b"x"))


def digest_of(folder: Path, *files: tuple[str, bytes]) -> str:
    folder.mkdir()
    intake = Intake(folder)
    for name, data in files:
        intake.take(name, io.BytesIO(data))
    return intake.digest()


def test_the_digest_depends_on_names_and_bytes_and_not_on_their_order(tmp_path):
    one, two = ("1.png", b"x"), ("2.png", b"y")
    first = digest_of(tmp_path / "1", one, two)
    assert digest_of(tmp_path / "2", two, one) == first
    zipped = ("all.zip", archive(("deep/1.png", b"x"), ("2.png", b"y")).getvalue())
    assert digest_of(tmp_path / "3", zipped) == first
    assert (
        len({first, digest_of(tmp_path / "4", one), digest_of(tmp_path / "5", ("1.png", b"y"), ("2.png", b"x"))}) == 3
    )
