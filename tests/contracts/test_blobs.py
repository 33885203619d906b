"""What every implementation of Blobs must do."""

import hashlib
import resource
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from fakes import InMemoryBlobs

from packshot.domain.errors import CorruptArtifact, NotFound, WorkspaceUnusable
from packshot.ports import Blobs
from packshot.storage.blobs import ObstoreBlobs

DATA = b"a packshot"
NAME = hashlib.sha256(DATA).hexdigest()
STRANGE_NAMES = ["", "..", "../../etc/passwd", "/etc/passwd", "ab/cd", NAME.upper(), NAME + "\n", NAME[:-1], "\0" * 64]


class BlobsContract:
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Any:
        raise NotImplementedError

    def damage(self, blobs: Any, sha256: str) -> None:
        raise NotImplementedError

    @pytest.mark.parametrize("data", [DATA, b"", bytes(range(256)) * 4096], ids=["short", "empty", "a megabyte"])
    def test_bytes_come_back(self, blobs: Blobs, data: bytes) -> None:
        name = blobs.put(data)
        assert name == hashlib.sha256(data).hexdigest()
        read = blobs.get(name)
        assert read == data
        assert type(read) is bytes

    def test_the_same_bytes_are_one_blob(self, blobs: Blobs) -> None:
        assert blobs.put(DATA) == blobs.put(DATA) == NAME
        assert list(blobs) == [NAME]

    def test_all_are_listed(self, blobs: Blobs) -> None:
        assert list(blobs) == []
        names = {blobs.put(bytes([number])) for number in range(20)}
        assert sorted(blobs) == sorted(names)

    def test_a_missing_one_is_not_found(self, blobs: Blobs) -> None:
        assert NAME not in blobs
        with pytest.raises(NotFound, match=NAME):
            blobs.get(NAME)
        blobs.put(DATA)
        assert NAME in blobs

    def test_a_flipped_bit_is_caught(self, blobs: Blobs) -> None:
        blobs.put(DATA)
        self.damage(blobs, NAME)
        with pytest.raises(CorruptArtifact, match=NAME):
            blobs.get(NAME)

    def test_storing_again_mends(self, blobs: Blobs) -> None:
        blobs.put(DATA)
        self.damage(blobs, NAME)
        blobs.put(DATA)
        assert blobs.get(NAME) == DATA

    @pytest.mark.parametrize("name", STRANGE_NAMES)
    def test_a_strange_name_is_not_found(self, blobs: Blobs, name: str) -> None:
        blobs.put(DATA)
        assert name not in blobs
        with pytest.raises(NotFound):
            blobs.get(name)


class TestInMemoryBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> InMemoryBlobs:
        return InMemoryBlobs()

    def damage(self, blobs: InMemoryBlobs, sha256: str) -> None:
        blobs.damage(sha256)


def file_of(folder: Path, sha256: str) -> Path:
    return folder / sha256[:2] / sha256[2:4] / sha256


class TestFolderBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> ObstoreBlobs:
        (tmp_path / "secret").write_bytes(DATA)
        self.folder = tmp_path / "blobs"
        return ObstoreBlobs.folder(self.folder)

    def damage(self, blobs: ObstoreBlobs, sha256: str) -> None:
        file = file_of(self.folder, sha256)
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)

    def test_a_truncated_file_is_caught_and_named(self, blobs: ObstoreBlobs) -> None:
        file = file_of(self.folder, blobs.put(DATA))
        file.write_bytes(DATA[:-1])
        with pytest.raises(CorruptArtifact, match=str(file)):
            blobs.get(NAME)

    def test_writers_of_one_blob_do_not_disturb_each_other(self, blobs: ObstoreBlobs) -> None:
        data = bytes(1_000_000)
        raised: list[BaseException] = []

        def put() -> None:
            try:
                assert blobs.get(blobs.put(data)) == data
            except BaseException as error:  # noqa: BLE001 reported below
                raised.append(error)

        threads = [threading.Thread(target=put) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert raised == []
        assert [path.name for path in self.folder.rglob("*") if path.is_file()] == list(blobs)

    def test_what_a_killed_writer_left_is_no_blob(self, blobs: ObstoreBlobs) -> None:
        file = file_of(self.folder, NAME)
        file.parent.mkdir(parents=True)
        file.with_name(NAME + "#1").write_bytes(DATA[:3])
        (self.folder / "notes.txt").write_bytes(b"not ours")
        assert NAME not in blobs
        assert list(blobs) == []
        blobs.put(DATA)
        assert blobs.get(NAME) == DATA

    def test_a_second_object_sees_the_same_folder(self, blobs: ObstoreBlobs) -> None:
        blobs.put(DATA)
        assert ObstoreBlobs.folder(self.folder).get(NAME) == DATA

    def test_a_folder_that_cannot_be_made_is_reported(self, blobs: ObstoreBlobs, tmp_path: Path) -> None:
        with pytest.raises(WorkspaceUnusable, match="secret"):
            ObstoreBlobs.folder(tmp_path / "secret" / "blobs")

    def test_a_folder_that_went_away_is_reported(self, blobs: ObstoreBlobs) -> None:
        blobs.put(DATA)
        shutil.rmtree(self.folder)
        self.folder.write_bytes(b"a file now")
        with pytest.raises(WorkspaceUnusable, match="blobs"):
            blobs.put(DATA)

    def test_a_write_that_fails_half_way_leaves_nothing(self, blobs: ObstoreBlobs) -> None:
        data = bytes(100_000)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            with pytest.raises(WorkspaceUnusable, match="too large"):
                blobs.put(data)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [path for path in self.folder.rglob("*") if path.is_file()] == []
        assert blobs.get(blobs.put(data)) == data
