from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fixtures_families import FAMILIES, save_family
from fixtures_pipelines import Studio, save_pipeline


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("pipelines") / "base")


@pytest.fixture(scope="package")
def studio(base_folder: Path) -> Studio:
    return Studio(base_folder)


@pytest.fixture(scope="package")
def cachedir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="package")
def family_studios(tmp_path_factory: pytest.TempPathFactory, studio: Studio) -> dict[str, Studio]:
    """A studio for every family."""
    folder = tmp_path_factory.mktemp("families")
    others = {family: Studio(save_family(family, folder / family)) for family in FAMILIES[1:]}
    return {FAMILIES[0]: studio, **others}
