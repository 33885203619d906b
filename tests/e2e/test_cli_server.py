"""The commands on a server: ``packshot --server`` does and prints what it does in a workspace; and models of others."""

import re
from pathlib import Path

import pytest
from fixtures_pipelines import save_pipeline
from photos import save_photo
from shell import PATH, SETTINGS, Shell, prepare

from packshot.imaging.recipe import pixel_digest, read_recipe
from packshot.providers.configuration import read_providers

PROVIDERS = """
[upstream]
base_url = "{url}/v1"
key_variable = "UPSTREAM_KEY"
sizes = "any"
price_per_image = 0.25
[upstream.settings]
seed = "seed"
"""
TEMPLATE = "background: on a {surface}\nvariables:\n  - {name: surface, kind: text, default: table}\n"


@pytest.fixture
def base(tmp_path):
    return save_pipeline(tmp_path / "base")


@pytest.fixture
def served(shell, serve, base):
    """The address of a server of ``shell``'s workspace, and an admin's key."""
    shell("base", "add", base)
    key = shell("key", "create", "test", "--scope", "admin").out.strip()
    return serve().url, key


@pytest.fixture
def remote(served, tmp_path) -> Shell:
    """A place without a workspace, whose commands go to the server."""
    url, key = served
    (tmp_path / "elsewhere").mkdir()
    env = {"PACKSHOT_HOME": str(tmp_path / "elsewhere" / "none"), "PACKSHOT_SERVER": url, "PACKSHOT_API_KEY": key}
    return Shell(tmp_path / "elsewhere" / "none", env)


def batches_and_scores(shell, remote, base, tmp_path):
    """What is long on a server, beside the same here."""
    batch = ["batch", PATH, "--template", "summer", "--set", "surface=shelf", "-n", 2, "--steps", 2, "--seed", 7]
    assert remote(*batch, "--dry-run", "--json").json["pictures"] == 2
    batches = [at(*batch, "--out", tmp_path / name) for at, name in ((shell, "here"), (remote, "there"))]
    names = [
        [Path(line).relative_to(tmp_path / name) for line in made.out.splitlines()]
        for made, name in zip(batches, ("here", "there"), strict=True)
    ]
    assert names[0] == names[1]
    assert len(names[1]) == 5
    made_there = tmp_path / "there" / PATH / "summer-v1-seed8.png"
    assert pixel_digest(made_there.read_bytes()) == pixel_digest(
        (tmp_path / "here" / PATH / made_there.name).read_bytes()
    )
    zipped = remote(*batch, "--zip", "--out", tmp_path / "zip", "--json").json
    assert [Path(each).name for each in zipped["files"]] == [
        "manifest.jsonl",
        "manifest.csv",
        "sheet.png",
        "pictures.zip",
    ]
    remote("category", "add", "produce/empty", "--class-noun", "pear")
    failed = remote("batch", "produce/empty", "--template", "summer", "--out", tmp_path / "none", code=1).err
    assert "1 failed:" in failed and "NothingServing" in failed
    (job,) = shell("job", "list", "--status", "failed", "--json").json
    assert remote("job", "retry", job["id"]).out == f"{job['id']} is queued\n"
    assert "failed" in remote("job", "watch", job["id"], code=1).err

    how = ["--images-per-scene", 1, "--out", tmp_path / "scores"]
    measured = remote("evaluate", f"{PATH}@1", *how).out.splitlines()
    assert measured[-2:] == [
        str(tmp_path / "scores" / f"produce-apple-fuji-v1-{name}") for name in ("report.json", "sheet.png")
    ]
    assert [line.split()[:3] for line in shell("evaluate", f"{PATH}@1", *how).out.splitlines()] == [
        line.split()[:3] for line in measured
    ]
    foreseen = remote("train", PATH, "--base", base, "--steps", 3, *SETTINGS, "--dry-run", "--json").json
    assert (foreseen["config"]["steps"], foreseen["estimate"]["training_steps"]) == (3, 3)
    assert "rank " in remote("train", PATH, "--base", base, *SETTINGS, "--dry-run").out


def test_the_whole_way_on_a_server(shell, remote, base, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(8):
        save_photo(tmp_path / "photos" / f"{seed}.png", seed)
    assert remote("category", "add", PATH, "--class-noun", "apple").out == f"{PATH}: callers write sks_fuji_apple\n"
    added = remote("references", "add", PATH, tmp_path / "photos", "--license", "CC0-1.0")
    assert added.out == "8 accepted, 0 refused\n"
    assert "set 1: 8 photos" in remote("references", "freeze", PATH).out

    trained = remote("train", PATH, "--base", base, "--steps", 3, *SETTINGS)
    assert trained.out.startswith(f"{PATH}@1: pivotal, 3 steps")
    assert remote("promote", f"{PATH}@1", "--reason", "first").out == f"{PATH} serves version 1\n"
    detached = remote("train", PATH, "--base", base, "--steps", 2, *SETTINGS, "--detach", "--json").json
    watched = remote("job", "watch", detached["job_id"])
    assert "succeeded  100%" in watched.err
    remote("promote", PATH, "--reason", "second")
    assert remote("rollback", PATH, "--reason", "no").out == f"{PATH} serves version 1 again\n"

    (tmp_path / "scene.yaml").write_text(TEMPLATE)
    remote("template", "add", "summer", tmp_path / "scene.yaml")
    out = ["--steps", 2, "--out", tmp_path / "out"]
    made = remote("generate", "sks_fuji_apple on grass", "-n", 2, "--seed", 7, *out, "--json").json
    assert [image["seed"] for image in made["images"]] == [7, 8]
    scene = remote("generate", PATH, "--template", "summer", "--set", "surface=shelf", *out, "--json").json
    recipe = read_recipe((tmp_path / "out" / f"{scene['images'][0]['id']}.png").read_bytes())
    assert recipe["prompt"] == "a photo of a sks_fuji_apple on a shelf"
    version = remote("generate", "sks_fuji_apple", "--version", f"{PATH}@2", *out, "--json").json
    assert "version 2," in remote("show", version["images"][0]["id"]).out
    layout = ["--layout", tmp_path / "photos" / "0.png", "--strength", 0.5]
    kept = remote("generate", "sks_fuji_apple on grass", *layout, *out, "--json").json
    recipe = read_recipe((tmp_path / "out" / f"{kept['images'][0]['id']}.png").read_bytes())
    assert (recipe["strength"], len(recipe["layout"])) == (0.5, 64)

    batches_and_scores(shell, remote, base, tmp_path)
    for command in (
        ["base", "list"],
        ["base", "show", base],
        ["category", "list"],
        ["category", "show", PATH],
        ["references", "check", PATH],
        ["show", f"{PATH}@1"],
        ["show", made["images"][0]["id"]],
        ["template", "list"],
        ["template", "show", "summer"],
        ["template", "render", "summer", PATH],
        ["job", "list"],
        ["job", "list", "--status", "failed"],
        ["job", "show", detached["job_id"]],
        ["usage"],
        ["audit"],
    ):
        for form in ([], ["--json"]):
            assert remote(*command, *form).out == shell(*command, *form).out, command
    assert not remote.home.exists()


def test_two_products_are_composed_here_and_on_a_server(shell, remote, base, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(8):
        save_photo(tmp_path / "photos" / f"{seed}.png", seed)
    other = "produce/pear/nashi"
    for path, noun in ((PATH, "apple"), (other, "pear")):
        shell("category", "add", path, "--class-noun", noun)
        shell("references", "add", path, tmp_path / "photos", "--license", "CC0-1.0")
        shell("references", "freeze", path)
        shell("train", path, "--base", base, "--steps", 2, *SETTINGS)
        shell("promote", path, "--reason", "a test")
    prompt = "sks_fuji_apple next to sks_nashi_pear in a basket"
    how = [prompt, "--steps", 2, "--seed", 7, "--box", "0.5,0,1,1", "--box", "0,0,0.5,1", "--json"]
    recipes, pixels = [], []
    for at, folder in ((shell, tmp_path / "here"), (remote, tmp_path / "there")):
        (image,) = at("generate", *how, "--out", folder).json["images"]
        png = (folder / f"{image['id']}.png").read_bytes()
        recipes.append(read_recipe(png))
        pixels.append(pixel_digest(png))
        told = at("show", image["id"]).out
        assert "subject 1   in the box 0.5,0,1,1" in told
        assert f"category    {other}" in told
        assert "this workspace made this very file" in shell("verify", folder / f"{image['id']}.png").out
    assert recipes[0] == recipes[1]
    assert pixels[0] == pixels[1]
    assert recipes[0]["subject_2_box"] == "0,0,0.5,1"
    assert recipes[0]["resolved_prompt"] == "apple next to pear in a basket"
    (columns,) = shell("generate", prompt, "--steps", 2, "--seed", 7, "--out", tmp_path / "here", "--json").json[
        "images"
    ]
    png = (tmp_path / "here" / f"{columns['id']}.png").read_bytes()
    assert pixel_digest(png) != pixels[0]
    assert read_recipe(png)["subject_1_box"] == "0,0,0.5,1"
    for at in (shell, remote):
        assert "overlap" in at("generate", prompt, "--box", "0,0,1,1", "--box", "0.5,0,1,1", code=2).err
        assert "is no box" in at("generate", prompt, "--box", "left", "--box", "right", code=2).err


def test_what_goes_wrong_on_a_server_is_told_as_in_a_workspace(remote, served):
    url, _ = served
    assert "no category 'produce/pear'" in remote("category", "show", "produce/pear", code=1).err
    assert "there is no Job" in remote("job", "show", "job_1", code=1).err
    refused = Shell(remote.home, {**remote.env, "PACKSHOT_API_KEY": "wrong"})
    assert "unknown or revoked" in refused("category", "list", code=1).err
    nowhere = Shell(
        remote.home, {"PACKSHOT_HOME": str(remote.home), "PACKSHOT_API_KEY": remote.env["PACKSHOT_API_KEY"]}
    )
    assert nowhere("--server", url, "category", "list").out.startswith("no category yet")
    away = Shell(remote.home, {**remote.env, "PACKSHOT_SERVER": "ftp://example.org"})
    assert "no address of a server" in away("category", "list", code=2).err


@pytest.mark.parametrize(
    "command",
    [
        ["init"],
        ["serve"],
        ["worker"],
        ["demo"],
        ["key", "list"],
        ["quota", "list"],
        ["references", "remove", PATH, "1.png"],
        ["export", f"{PATH}@1"],
    ],
    ids=" ".join,
)
def test_commands_that_need_a_workspace_say_so(tmp_path, command):
    nowhere = Shell(tmp_path / "none", {"PACKSHOT_HOME": str(tmp_path / "none")})
    told = nowhere("--server", "http://127.0.0.1:1", *command, code=2).err
    assert "works in a workspace of this machine and not on http://127.0.0.1:1" in told
    assert not nowhere.home.exists()


def test_a_model_of_others_answers_from_the_command_line(shell, serve, new_shell, base, tmp_path):
    prepare(shell, tmp_path)
    shell("train", PATH, "--base", base, "--steps", 2, *SETTINGS)
    shell("promote", PATH, "--reason", "a test")
    key = shell("key", "create", "test", "--scope", "generate").out.strip()
    ours = new_shell("ours", UPSTREAM_KEY=key)
    (ours.home / "providers.toml").write_text(PROVIDERS.format(url=serve().url))
    arguments = ["generate", "on grass", "--model", "upstream/sks_fuji_apple", "--out", tmp_path / "out"]
    (picture,) = ours(*arguments, "--seed", 7, "--json").json["images"]
    png = tmp_path / "out" / f"{picture['id']}.png"
    recipe = read_recipe(png.read_bytes())
    assert (recipe["model"], recipe["seed"]) == ("upstream/sks_fuji_apple", 7)
    assert "known; this workspace made this very file" in ours("verify", png).out
    assert "model       upstream/sks_fuji_apple" in ours("show", picture["id"]).out
    assert ours("usage", "--json").json["total"]["fees"] == 0.25
    assert "takes no inference_steps" in ours(*arguments, "--steps", 3, code=2).err
    assert "has no base" in ours(*arguments, "--base", "embedded", code=2).err
    assert "known: upstream" in ours("generate", "on grass", "--model", "other/x", code=1).err
    wrong = Shell(ours.home, {**ours.env, "UPSTREAM_KEY": "pks_wrong"})
    told = wrong(*arguments, code=1).err
    assert "upstream does not take the key (401)" in told
    assert "pks_wrong" not in told


def test_the_declaration_in_the_guide_can_be_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "guide" / "providers.md").read_text(encoding="utf-8")
    (declared,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "providers.toml").write_text(declared)
    assert list(read_providers(tmp_path / "providers.toml")) == ["openai", "studio"]
