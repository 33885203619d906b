"""Reference photos from URLs by the command line: in a workspace, and on a server that fetches them."""

from pathlib import Path

import pytest
from file_server import file_server
from photos import save_photo
from shell import PATH, Shell

SUMMARY = "7 accepted, 2 refused"


@pytest.fixture
def shell(new_shell) -> Shell:
    """A workspace that may fetch from this machine, with a category."""
    shell = new_shell(PACKSHOT_WEBHOOK_NETWORKS="127.0.0.1/32")
    shell("category", "add", PATH, "--class-noun", "apple")
    return shell


@pytest.fixture
def remote(shell, serve, tmp_path: Path) -> Shell:
    """A place without a workspace, whose commands go to a server of that workspace."""
    key = shell("key", "create", "test", "--scope", "train").out.strip()
    home = tmp_path / "elsewhere" / "none"
    home.parent.mkdir()
    url = serve("--workers", "0").url
    return Shell(home, {"PACKSHOT_HOME": str(home), "PACKSHOT_SERVER": url, "PACKSHOT_API_KEY": key})


@pytest.mark.parametrize("where", ["shell", "remote"])
def test_photos_from_urls_and_files_make_a_set(request, tmp_path, where):
    packshot: Shell = request.getfixturevalue(where)
    (tmp_path / "photos").mkdir()
    save_photo(tmp_path / "photos" / "file.png", 0)
    with file_server() as web:
        for seed in range(1, 7):
            save_photo(tmp_path / "shot.png", seed)
            web.files[f"/{seed}.png"] = (tmp_path / "shot.png").read_bytes()
        urls = [f"{web.url}/{seed}.png" for seed in range(1, 7)]
        others = [f"{web.url}/7.png", f"http://127.0.0.2:{web.port}/1.png"]
        added = packshot("references", "add", PATH, tmp_path / "photos", *urls, *others, "--license", "CC0-1.0")
        assert added.out.startswith(SUMMARY)
        assert f"7.png: unreachable: {others[0]} gives no picture: 127.0.0.1 answers 404" in added.out
        assert "127.0.0.2 is no public address" in added.out
        again = packshot("references", "add", PATH, *urls, "--json").json
    images = packshot("references", "check", PATH, "--json").json["images"]
    assert [image["rights"]["source"] for image in images] == ["", *urls, *others]
    assert again == images[1:7]
    assert "set 1: 7 photos" in packshot("references", "freeze", PATH).out


def test_a_url_alone_that_gives_nothing_ends_with_one(shell):
    told = shell("references", "add", PATH, "http://127.0.0.1:1/1.png", code=1).out
    assert "0 accepted, 1 refused" in told
    assert "does not answer" in told
    assert "no URL of a picture" in shell("references", "add", PATH, "https://user:word@shop.example/", code=2).err
