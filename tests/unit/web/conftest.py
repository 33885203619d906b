"""Servers without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from api import Platform, platform_in


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    yield from platform_in(tmp_path)


@pytest.fixture
def dev_platform(tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """A function that starts a server in development mode, for a caller at an address."""
    running: list[Iterator[Platform]] = []

    def start(address: str) -> Platform:
        running.append(platform_in(tmp_path / str(len(running)), dev=True, client=(address, 1)))
        return next(running[-1])

    yield start
    for each in running:
        next(each, None)
