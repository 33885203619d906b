"""The command line without a model: outputs, exit codes, and bad input that leaves nothing half-written."""

import json
import struct
import subprocess
import sys
import zlib

import pytest
from photos import save_photo
from PIL import Image

PATH = "produce/apple/fuji"


@pytest.fixture
def category(shell):
    shell("category", "add", PATH, "--class-noun", "apple")
    return shell


def huge_png(edge: int) -> bytes:
    """The first bytes of a PNG that says it is ``edge`` pixels square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["generate", "--help"], ["--version"]])
def test_help_loads_no_model_library_and_no_database(arguments):
    heavy = [
        "torch",
        "diffusers",
        "transformers",
        "peft",
        "sqlalchemy",
        "alembic",
        "obstore",
        "numpy",
        "PIL",
        "matplotlib",
    ]
    program = (
        "import sys\nfrom packshot.cli import main\n"
        f"sys.argv = ['packshot', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        f"print('loaded', [name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "loaded []"
    assert "packshot" in done.stdout


def test_the_workspace_is_made_once_and_again_without_harm(shell):
    shell("category", "add", PATH, "--class-noun", "apple")
    assert shell("init", "--json").json == {"home": str(shell.home)}
    assert len(shell("category", "list", "--json").json) == 1


def test_without_a_workspace_the_message_says_how_to_make_one(shell, tmp_path):
    nowhere = type(shell)(tmp_path / "nowhere", {"PACKSHOT_HOME": str(tmp_path / "nowhere")})
    failed = nowhere("category", "list", code=1)
    assert "packshot init" in failed.err
    assert failed.out == ""
    assert not nowhere.home.exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PACKSHOT_LEASE_S", "soon"), ("PACKSHOT_MAX_BATCH", "0"), ("PACKSHOT_NAMESPACE", "My Shop")],
)
def test_a_bad_setting_is_wrong_usage_and_named(shell, variable, value):
    failed = type(shell)(shell.home, {**shell.env, variable: value})("category", "list", code=2)
    assert variable in failed.err
    assert value in failed.err
    assert "Traceback" not in failed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["category", "add", PATH],
        ["train", PATH, "--steps", "many"],
        ["generate"],
        ["evaluate", PATH, "--images-per-scene", "0"],
    ],
)
def test_wrong_usage_ends_with_2(shell, arguments):
    assert shell(*arguments, code=2).out == ""


def test_json_errors_are_objects_on_stderr(category):
    failed = category("category", "show", "produce/apple/fuij", "--json", code=1)
    assert failed.out == ""
    error = json.loads(failed.err)
    assert error["error"] == "NotFound"
    assert "did you mean produce/apple/fuji" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["category", "add", PATH, "--class-noun", "apple"], 1, "exists"),
        (["category", "add", "juice/apple/fuji", "--class-noun", "apple"], 1, "in use"),
        (
            ["category", "add", "a/b", "--class-noun", "apple", "--identifier", "sks_fuji_app1e"],
            1,
            "cannot be told from",
        ),
        (
            ["category", "add", "a/b", "--class-noun", "apple", "--identifier", "SKS_Fuji_Apple"],
            1,
            "cannot be told from",
        ),
        (
            ["category", "add", "a/b", "--class-noun", "apple", "--identifier", "sks_fuji_аpple"],
            1,
            "cannot be told from",
        ),
        (["category", "add", "Produce//apple", "--class-noun", "apple"], 2, "is not a category path"),
        (["category", "add", "a/b", "--class-noun", "Apple"], 2, "is not a class noun"),
        (["category", "add", "a/b", "--class-noun", "apple", "--identifier", ""], 2, "is not an identifier"),
        (["references", "add", PATH, "nowhere"], 2, "nowhere does not exist"),
        (["references", "freeze", PATH], 1, "has 0 usable reference photos and needs at least 5"),
        (["references", "remove", PATH, "1.jpg"], 1, "has no reference photo '1.jpg'"),
        (["promote", PATH], 1, "has no fine-tune yet"),
        (["promote", f"{PATH}@"], 2, "write PATH or PATH@VERSION"),
        (["rollback", PATH], 1, "serves nothing yet"),
        (["show", "img_0123456789abcdef"], 1, "img_0123456789abcdef"),
        (["generate", "sks_fuji_apple on grass"], 1, "serves no fine-tune yet"),
        (["generate", "sks_gala_apple on grass"], 2, "no category answers to 'sks_gala_apple'"),
        (["generate", "an apple <packshot-0123>"], 2, "angle brackets"),
        (["generate", "an apple", "-n", "0"], 2, "num_images is 0"),
        (["generate", "an apple", "--width", "100"], 2, "multiple of 8"),
        (["demo", "--photos", "."], 2, "--class-noun"),
    ],
)
def test_what_is_refused_says_why_and_writes_nothing(category, arguments, code, message):
    before = category.stored()
    failed = category(*arguments, code=code)
    assert message in failed.err
    assert failed.out == ""
    assert "Traceback" not in failed.err
    assert category.stored() == before


def test_three_photos_make_no_set(category, tmp_path):
    for seed in range(3):
        save_photo(tmp_path / f"{seed}.png", seed)
    category("references", "add", PATH, *(tmp_path / f"{seed}.png" for seed in range(3)))
    before = category.stored()
    failed = category("references", "freeze", PATH, code=1)
    assert "has 3 usable reference photos and needs at least 5" in failed.err
    assert category.stored() == before
    failed = category("train", PATH, "--base", tmp_path, code=1)
    assert category.stored() == before


@pytest.mark.parametrize("kind", ["text", "truncated", "huge"])
def test_a_file_that_is_no_usable_photo_is_one_whole_refusal(category, tmp_path, kind):
    file = tmp_path / "photo.jpg"
    if kind == "text":
        file.write_text("this is not a photo")
    elif kind == "truncated":
        save_photo(tmp_path / "good.png", 1)
        with Image.open(tmp_path / "good.png") as image:
            image.save(file)
        file.write_bytes(file.read_bytes()[:2000])
    else:
        file = tmp_path / "photo.png"
        file.write_bytes(huge_png(50_000))
    refused = category("references", "add", PATH, file, "--json", code=1).json
    reason = {"text": "unsupported-format", "truncated": "truncated", "huge": "too-many-pixels"}[kind]
    assert [(image["refusal"], image["image"], image["mask"]) for image in refused] == [(reason, None, None)]
    assert file.name in refused[0]["explanation"]
    after = category.stored()
    assert after["blobs"] == [refused[0]["original"]]
    assert category("references", "add", PATH, file, "--json", code=1).json == refused
    assert category.stored() == after
    assert f"refused: {reason}" in category("references", "check", PATH).out


def test_good_photos_beside_bad_ones_are_taken(category, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    save_photo(folder / "good.png", 1)
    (folder / "bad.jpg").write_text("no photo")
    added = category("references", "add", PATH, folder)
    assert added.out.splitlines()[0] == "1 accepted, 1 refused"
    assert "bad.jpg" in added.out


def test_a_retired_category_stays_visible_and_keeps_its_identifier(category):
    assert "sks_fuji_apple stays reserved" in category("category", "retire", PATH).out
    assert f"{PATH} (retired)" in category("category", "list").out
    failed = category("category", "add", "a/b", "--class-noun", "apple", "--identifier", "sks_fuji_apple", code=1)
    assert "never reused" in failed.err


def test_an_empty_catalog_says_what_to_do(shell):
    assert "packshot category add" in shell("category", "list").out
    assert "packshot base add" in shell("base", "list").out
    assert shell("worker").out == "no job waits\n"
