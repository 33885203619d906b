"""A workspace whose records are in PostgreSQL, from photos to a picture."""

from pathlib import Path

import pytest
from api import PROMPT, platform_in

from packshot.bootstrap import open_workspace
from packshot.domain.errors import WorkspaceMissing
from packshot.domain.generation import Generation
from packshot.settings import Settings


def test_the_road_from_photos_to_a_picture(tmp_path: Path, postgres_database: str) -> None:
    for platform in platform_in(tmp_path, database=postgres_database):
        fine_tune_id = platform.serving()
        asked = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
        platform.work()
        made = platform.call("GET", asked["urls"]["get"])
        assert (made["status"], made["fine_tune_id"]) == ("succeeded", fine_tune_id)
        reply = platform.client.get(made["images"][0]["url"], headers=platform.key("read"))
        assert reply.content.startswith(b"\x89PNG")
        assert platform.client.get("/readyz").status_code == 200
    assert not list(tmp_path.rglob("*.db"))
    with open_workspace(Settings(home=tmp_path / "workspace", database=postgres_database)) as space:
        assert [each.id for each in space.records.find(Generation)] == [asked["id"]]


def test_the_environment_names_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKSHOT_DATABASE", f"sqlite:///{tmp_path}/elsewhere.db")
    settings = Settings(home=tmp_path / "workspace")
    with pytest.raises(WorkspaceMissing, match=r"elsewhere\.db"):
        open_workspace(settings)
    assert "elsewhere" not in repr(settings)
