"""When a file is hashed anew, and when its remembered digest answers."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from packshot.digests import FileDigests
from packshot.domain.errors import WorkspaceUnusable

FORGED = "0" * 64


def later() -> int:
    """A clock by which every file of this test settled long ago."""
    return time.time_ns() + 10**10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def memory(tmp_path: Path, file: Path) -> Path:
    """A memory that knows ``file``, with a forged digest, so that an answer from memory can be told."""
    path = tmp_path / "cache" / "digests.json"
    assert FileDigests(path, later).sha256(file) == digest(file)
    entries = json.loads(path.read_text())
    entries[str(file)][1] = FORGED
    path.write_text(json.dumps(entries))
    return path


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_an_unchanged_file_is_not_hashed_again(memory: Path, file: Path) -> None:
    assert FileDigests(memory, later).sha256(file) == FORGED


def keep_times(file: Path, change: bytes) -> None:
    """The content changes, size and time of change stay: only the inode's time, which nobody can set, tells."""
    before = file.stat()
    file.write_bytes(change)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another_in_its_place(file: Path, change: bytes) -> None:
    other = file.with_name("other")
    other.write_bytes(change)
    before = file.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)


def link_to_another(file: Path, change: bytes) -> None:
    """As the cache of a hub does."""
    other = file.with_name("other")
    other.write_bytes(change)
    file.unlink()
    file.symlink_to(other)


@pytest.mark.parametrize("change", [Path.write_bytes, keep_times, put_another_in_its_place, link_to_another])
@pytest.mark.parametrize("content", [b"WEIGHTS", b"longer weights"])
def test_a_changed_file_is_hashed_again(memory: Path, file: Path, change, content: bytes) -> None:
    change(file, content)
    assert FileDigests(memory, later).sha256(file) == digest(file)


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path, file: Path) -> None:
    memory = tmp_path / "digests.json"
    assert FileDigests(memory, lambda: file.stat().st_ctime_ns + 10**9).sha256(file) == digest(file)
    assert not memory.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": [["x"], "y"]}'])
def test_a_damaged_memory_is_made_anew(memory: Path, file: Path, content: bytes) -> None:
    memory.write_bytes(content)
    assert FileDigests(memory, later).sha256(file) == digest(file)
    assert list(json.loads(memory.read_text())) == [str(file)]


def test_two_processes_keep_each_others_entries_and_files_that_are_gone_are_forgotten(
    tmp_path: Path, memory: Path, file: Path
) -> None:
    one, two = FileDigests(memory, later), FileDigests(memory, later)
    others = [tmp_path / "a", tmp_path / "b"]
    for digests, other in zip((one, two), others, strict=True):
        other.write_bytes(b"other")
        digests.sha256(other)
    assert set(json.loads(memory.read_text())) == {str(path) for path in (file, *others)}
    file.unlink()
    others[0].write_bytes(b"changed")
    two.sha256(others[0])
    assert set(json.loads(memory.read_text())) == {str(path) for path in others}


def test_without_a_memory_the_object_remembers(file: Path) -> None:
    digests = FileDigests(now_ns=later)
    first = digests.sha256(file)
    file.write_bytes(b"other")
    assert digests.sha256(file) == digest(file) != first


def test_a_memory_that_cannot_be_written_is_a_typed_error(tmp_path: Path, file: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(WorkspaceUnusable, match=r"digests\.json could not be written"):
        FileDigests(tmp_path / "cache" / "digests.json", later).sha256(file)
