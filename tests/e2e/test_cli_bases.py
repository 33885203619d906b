"""``packshot base``: bases are examined, registered once, listed and shown; what is no base is refused by type."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from fixtures_pipelines import RESOLUTION, save_pipeline
from shell import PATH, prepare, train


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Two bases that predict differently."""
    folder = tmp_path_factory.mktemp("bases")
    save_pipeline(folder / "base")
    save_pipeline(folder / "velocity", prediction_type="v_prediction")
    return folder


def test_a_base_is_added_once_listed_and_shown(shell, bases):
    added = shell("base", "add", bases / "velocity", "--json").json
    assert (added["source"], added["prediction_type"]) == (str(bases / "velocity"), "v_prediction")
    again = shell("base", "add", bases / "velocity").out
    assert f"stable-diffusion, {RESOLUTION} px, predicts v_prediction, digest {added['digest'][:12]}" in again
    shell("base", "add", bases / "base")

    listed = shell("base", "list", "--json").json
    assert [each["prediction_type"] for each in listed] == ["v_prediction", "epsilon"]
    assert listed[0] == added
    heading, *rows = shell("base", "list").out.splitlines()
    assert heading.split() == ["SOURCE", "FAMILY", "RESOLUTION", "PREDICTS", "DIGEST", "REGISTERED"]
    day = added["registered_at"][:10]
    assert [row.split()[:-1] for row in rows] == [
        [each["source"], "stable-diffusion", str(RESOLUTION), "px", each["prediction_type"], each["digest"][:12], day]
        for each in listed
    ]
    for reference in (bases / "velocity", added["id"], added["digest"][:8]):
        assert shell("base", "show", reference, "--json").json == {**added, "fine_tunes": []}


def test_a_shown_base_names_its_fine_tunes_and_says_when_its_files_are_gone(shell, bases, tmp_path):
    prepare(shell, tmp_path)
    shutil.copytree(bases / "base", tmp_path / "base")
    train(shell, tmp_path)
    shown = shell("base", "show", tmp_path / "base").out
    assert f"fine-tunes  {PATH}@1" in shown
    assert "predicts    epsilon" in shown
    shutil.rmtree(tmp_path / "base")
    assert "not at hand" in shell("base", "show", tmp_path / "base").out
    (row,) = shell("base", "list").out.splitlines()[1:]
    assert row.split()[4] == "-"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["add", "./nowhere"], 1, "BaseModelRefused"),
        (["add", "."], 1, "BaseModelRefused"),
        (["add", "BASE", "--revision", "v1"], 2, "InvalidInput"),
        (["show", "owner/name"], 1, "NotFound"),
    ],
)
def test_what_is_no_base_is_refused_and_not_recorded(shell, bases, arguments, code, error):
    given = [str(bases / "base") if each == "BASE" else each for each in arguments]
    failed = shell("base", *given, "--json", code=code)
    assert json.loads(failed.err)["error"] == error
    assert shell("base", "list", "--json").json == []


def test_bases_are_listed_without_a_model_library(shell, bases):
    shell("base", "add", bases / "base")
    program = (
        "import sys\nfrom packshot.cli import main\nsys.argv = ['packshot', 'base', 'list']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'peft') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **shell.env}, capture_output=True, text=True, check=True
    )
    assert str(bases / "base") in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
