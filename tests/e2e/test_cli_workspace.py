"""The workspace behind the commands: JSON for scripts, a database that is let go, jobs that a dead worker held."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from photos import save_photo
from shell import PATH, prepare

from packshot.bootstrap import DATABASE, open_workspace
from packshot.domain.catalog import Category
from packshot.domain.jobs import Job, JobKind
from packshot.settings import Settings
from packshot.storage.records import SqlRecords


@pytest.mark.parametrize(
    "arguments",
    [
        ["init"],
        ["category", "add", "produce/pear/conference", "--class-noun", "pear"],
        ["category", "list"],
        ["category", "show", PATH],
        ["category", "retire", PATH],
        ["references", "check", PATH],
        ["references", "freeze", PATH],
        ["base", "list"],
        ["template", "list"],
        ["key", "list"],
        ["worker"],
    ],
    ids=" ".join,
)
def test_every_command_speaks_json_on_stdout_and_text_without(shell, tmp_path, arguments):
    prepare(shell, tmp_path)
    parsed = shell(*arguments, "--json")
    assert isinstance(parsed.json, dict | list)
    shell("category", "add", "a/b", "--class-noun", "apple")
    if arguments[:2] not in (["category", "add"], ["category", "retire"]):
        text = shell(*arguments).out
        assert text.strip()
        assert not text.startswith(("{", "["))


def test_photos_are_taken_out_of_the_next_set(shell, tmp_path):
    prepare(shell, tmp_path)
    save_photo(tmp_path / "new.png", 50)
    shell("references", "add", PATH, tmp_path / "new.png")
    assert shell("references", "remove", PATH, "0.png", "new.png").out == "0.png is withdrawn\nnew.png is removed\n"
    checked = shell("references", "check", PATH).out
    assert "7 accepted; ready to freeze" in checked
    assert "withdrawn" in checked.split("0.png")[1].splitlines()[0]
    assert "set 2: 7 photos" in shell("references", "freeze", PATH).out
    image_id = shell("references", "check", PATH, "--json").json["images"][1]["id"]
    (removed,) = shell("references", "remove", PATH, image_id, "--json").json
    assert (removed["id"], removed["file_name"], removed["refusal"]) == (image_id, "1.png", "withdrawn")


def test_the_secret_of_a_key_is_shown_once(shell):
    made = shell("key", "create", "web shop", "--scope", "generate", "--namespace", "acme", "--json").json
    secret = shell("key", "create", "studio", "--scope", "read", "--scope", "train").out.strip()
    listed = shell("key", "list").out
    assert made["key"]["id"] in listed
    assert made["secret"].startswith("pks_") and secret.startswith("pks_")
    everything = repr(shell.stored())
    assert made["secret"] not in everything and secret not in everything
    assert shell("key", "list", "--json").json[1]["scopes"] == ["read", "train"]
    shell("key", "revoke", made["key"]["id"])
    assert "revoked" in shell("key", "list").out
    assert "was revoked" in shell("key", "revoke", made["key"]["id"], code=1).err
    assert "write is no scope" in shell("key", "create", "x", "--scope", "write", code=2).err


def open_databases(home: Path) -> list[str]:
    found: list[str] = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(handle.readlink()))
        except FileNotFoundError:  # the handle of this very listing
            continue
    return [name for name in found if name.startswith(str(home / DATABASE))]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_workspace_lets_go_of_its_database(shell, monkeypatch):
    monkeypatch.setenv("PACKSHOT_HOME", str(shell.home))
    with open_workspace(Settings()) as space:
        assert space.records.find(Category) == []
        assert open_databases(shell.home)
    assert open_databases(shell.home) == []


def test_a_worker_that_is_given_a_job_waits_for_the_lease_of_a_dead_one(shell):
    """As ``train --detach`` right after a kill: the worker must not go away while the old lease still runs."""
    queued = Job(id="job_1", kind=JobKind.TRAINING, subject_id="run_gone", created_at=datetime.now(UTC))
    with SqlRecords.open(shell.home / DATABASE) as records:
        records.add(queued)
        assert records.claim("dead:1", datetime.now(UTC), timedelta(seconds=3), job_id=queued.id)
    ended = shell("worker", "--job", queued.id, "--json", code=1)
    (job,) = ended.json
    assert (job["status"], job["attempt"], job["failures"]) == ("failed", 2, 1)
    assert "run_gone" in job["message"]
    assert "worker dead:1 holds job job_1" in ended.err
