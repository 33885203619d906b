"""What operators ask from the command line, without a model."""

from dataclasses import replace
from datetime import UTC, datetime

from certificates import write_signing
from PIL import Image

from packshot.bootstrap import open_workspace
from packshot.credentials import inscriber
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.domain.usage import Usage
from packshot.imaging.pixels import encode_png
from packshot.imaging.recipe import with_recipe
from packshot.settings import Settings


def test_verify_tells_a_foreign_file_from_one_of_another_workspace(shell, tmp_path):
    png = encode_png(Image.new("RGB", (8, 8), (200, 30, 20)))
    (tmp_path / "foreign.png").write_bytes(png)
    (tmp_path / "other.png").write_bytes(with_recipe(png, {"prompt": "an apple", "seed": 7}))
    told = shell("verify", tmp_path / "foreign.png", code=1)
    assert "foreign.png: foreign; it holds no recipe of Packshot" in told.out
    told = shell("verify", tmp_path / "other.png", code=1)
    assert "other.png: elsewhere" in told.out
    assert "seed: 7" in told.out
    assert "trainedAlgorithmicMedia" in told.out
    assert shell("verify", tmp_path / "other.png", "--json", code=1).json["recipe_whole"]
    assert "cannot read" in shell("verify", tmp_path / "missing.png", code=2).err


def test_verify_checks_a_signature_against_the_trusted_roots(shell, tmp_path):
    signing = write_signing(tmp_path / "signing")
    png = encode_png(Image.new("RGB", (8, 8), (200, 30, 20)))
    signed = inscriber(signing.key, signing.certificates)(png, {"prompt": "an apple"})
    (tmp_path / "signed.png").write_bytes(signed)
    (tmp_path / "changed.png").write_bytes(signed.replace(b"an apple", b"a banana", 1))
    told = shell("verify", tmp_path / "signed.png", code=1).out
    assert "whole, signed by Shop, Signer" in told
    assert "no trusted root" in told
    trusting = replace(shell, env={**shell.env, **signing.env})
    assert "a trusted root vouches" in trusting("verify", tmp_path / "signed.png", code=1).out
    assert trusting("verify", tmp_path / "signed.png", "--json", code=1).json["credentials"]["trusted"]
    assert "NOT whole (assertion." in trusting("verify", tmp_path / "changed.png", code=1).out


def test_a_key_that_cannot_sign_stops_server_and_worker_at_the_start(shell, tmp_path):
    signing = write_signing(tmp_path / "signing")
    signing.key.write_text("no key")
    broken = replace(shell, env={**shell.env, **signing.env})
    for command in (("serve", "--port", 0, "--workers", 0), ("worker",)):
        assert "key.pem holds no private key in PEM form" in broken(*command, code=1).err
    signing.roots.write_text("no root")
    (tmp_path / "any.png").write_bytes(b"any")
    assert "roots.pem holds no certificates" in broken("verify", tmp_path / "any.png", code=1).err


def test_deeds_at_the_machine_are_noted(shell):
    shell("category", "add", "produce/pear", "--class-noun", "pear")
    secret = shell("key", "create", "web shop", "--scope", "read", "--namespace", "acme").out.strip()
    key = shell("key", "list", "--json").json[0]["id"]
    shell("key", "revoke", key)
    shell("key", "revoke", key, code=1)
    shell("quota", "set", "acme", "--max-unfinished-jobs", 5)
    shell("quota", "set", "acme", "--max-unfinished-jobs", 0, code=2)
    shell("category", "retire", "produce/pear")
    told = shell("audit", "--json").json
    assert [(each["action"], each["namespace"], each["subject"]) for each in told] == [
        ("create-key", "acme", "web shop: read"),
        ("revoke-key", "acme", f"{key} (web shop)"),
        ("set-quota", "acme", "default requests per minute, 5 unfinished jobs"),
        ("retire", "sks", "produce/pear"),
    ]
    assert all(" at " in each["actor"] for each in told)
    shown = shell("audit", "--namespace", "sks").out
    assert "produce/pear" in shown
    assert "acme" not in shown
    assert secret not in shell("audit").out


def test_limits_and_usage_are_listed(shell):
    assert "no namespace" in shell("quota", "list").out
    shell("quota", "set", "acme", "--requests-per-minute", 7)
    assert shell("quota", "list", "--json").json == {"acme": {"requests_per_minute": 7, "max_unfinished_jobs": 1000}}
    assert shell("usage", "--since", "2026-11-01", "--json").json["total"]["num_images"] == 0
    with open_workspace(Settings(home=shell.home)) as space:
        job = Job(id="job_1", kind=JobKind.TRAINING, subject_id="run", created_at=datetime(2026, 1, 1, tzinfo=UTC))
        told = {"category_id": None, "job_id": "job_1", "status": JobStatus.SUCCEEDED, "num_steps": 5}
        at = datetime(2026, 1, 31, 23, tzinfo=UTC)
        for name, kind, seconds in (("acme", JobKind.TRAINING, 7200.0), ("b", JobKind.GENERATION, 3600.0)):
            used = Usage(id=name, namespace=name, kind=kind, num_images=3, seconds=seconds, created_at=at, **told)
            space.records.add(*([job] if name == "acme" else []), used)
    lines = shell("usage", "--since", "2026-01-31", "--until", "2026-02-01").out.splitlines()
    assert lines[0].split("  ")[0] == "NAMESPACE"
    assert [line.split()[0] for line in lines[1:]] == ["acme", "b", "acme", "b", "total"]
    assert lines[-1].split()[1:] == ["6", "10", "7200.0", "10800.0", "0.00"]
    for period in (["--until", "2026-01-31"], ["--since", "2026-02-01"]):
        assert shell("usage", *period, "--json").json["total"]["seconds"] == 0
    shell("usage", "--since", "soon", code=2)


def test_a_quota_holds_for_the_command_line_too(shell, tmp_path):
    shell("category", "add", "produce/apple", "--class-noun", "apple", "--identifier", "sks_red_thing")
    (tmp_path / "scene.yaml").write_text("background: on a table\n")
    shell("template", "add", "table", tmp_path / "scene.yaml")
    shell("quota", "set", "sks", "--max-unfinished-jobs", 1)
    with open_workspace(Settings(home=shell.home)) as space:
        space.records.add(
            Job(id="job_1", kind=JobKind.TRAINING, subject_id="run", namespace="sks", created_at=datetime.now(UTC))
        )
    assert "1 unfinished jobs and may have 1" in shell("batch", "produce/apple", "--template", "table", code=1).err
    assert [each["id"] for each in shell("job", "list", "--json").json] == ["job_1"]
    assert "is queued" in shell("job", "retry", "job_1", code=1).err
    shell("job", "cancel", "job_1")
    assert shell("job", "retry", "job_1").out == "job_1 is queued\n"
    assert "1 unfinished jobs and may have 1" in shell("batch", "produce/apple", "--template", "table", code=1).err
