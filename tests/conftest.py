"""Folders of reference photos that pass the curation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from photos import RED, save_photo

PhotoFolder = Callable[..., Path]


@pytest.fixture
def photo_folder(tmp_path: Path) -> PhotoFolder:
    """A function that makes a folder of ``count`` good photos, the first with seed ``start``."""

    def make(
        count: int, *, name: str = "photos", colour: tuple[int, int, int] = RED, start: int = 0, suffix: str = ".png"
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(start, start + count):
            save_photo(folder / f"{seed:02}{suffix}", seed, colour)
        return folder

    return make
