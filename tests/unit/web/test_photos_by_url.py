"""Reference photos from URLs over HTTP."""

import pytest
from api import IDENTIFIER, Platform, platform_in
from fakes import CannedFetcher
from file_server import file_server

from packshot.domain.references import ReferenceImage

NEW = {"path": "apple/fuji", "class_noun": "apple"}
ROUTE = f"/v1/categories/{IDENTIFIER}/references/urls"
SHOP = "https://shop.example"


@pytest.fixture
def shop(platform: Platform) -> CannedFetcher:
    """A server of somebody else with eight photos, for a category that has none yet."""
    platform.call("POST", "/v1/categories", json=NEW, status=201)
    fetcher = CannedFetcher({f"{SHOP}/{name}": data for _, (name, data) in platform.photos()})
    vars(platform.space).update(fetcher=fetcher)
    return fetcher


def test_photos_from_urls_make_a_set(platform, shop):
    first, *_ = shop.files
    body = {"urls": [*shop.files, f"{SHOP}/gone.png"], "captions": {first: "an apple on grass"}, "license": "CC0-1.0"}
    taken = platform.call("POST", ROUTE, json=body, status=201)
    assert [(photo["file_name"], photo["refusal"]) for photo in taken] == [
        *((f"{number:02}.png", None) for number in range(8)),
        ("gone.png", "unreachable"),
    ]
    assert "answers 404" in taken[8]["explanation"]
    assert (taken[0]["caption"], taken[0]["rights"]) == ("an apple on grass", {"source": first, "license": "CC0-1.0"})
    report = platform.call("GET", f"/v1/categories/{IDENTIFIER}/references")
    assert (report["images"], report["freezable"]) == (taken, True)
    assert platform.call("POST", f"/v1/categories/{IDENTIFIER}/references/freeze", status=201)["version"] == 1


def test_the_same_key_fetches_once(platform, shop):
    body = {"urls": list(shop.files)}
    headers = {"Idempotency-Key": "k1"}
    first = platform.call("POST", ROUTE, json=body, headers=headers, status=201)
    assert platform.call("POST", ROUTE, json=body, headers=headers, status=201) == first
    assert len(shop.asked) == 8
    other = {"urls": list(shop.files)[:1]}
    assert platform.call("POST", ROUTE, json=other, headers=headers, status=422)["type"].endswith("key-reused")
    assert len(platform.space.records.find(ReferenceImage)) == 8


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"urls": []}, "malformed-request"),
        ({"urls": [f"{SHOP}/{number}" for number in range(31)]}, "malformed-request"),
        ({"urls": f"{SHOP}/1.png"}, "malformed-request"),
        ({"urls": [f"{SHOP}/1.png"], "rights": "mine"}, "malformed-request"),
        ({"urls": ["file:///etc/hostname"]}, "invalid-input"),
        ({"urls": [f"{SHOP}/1.png"], "captions": {"2.png": "an apple"}}, "invalid-input"),
    ],
)
def test_what_is_no_list_of_urls_is_refused_whole(platform, shop, body, problem):
    assert platform.call("POST", ROUTE, json=body, status=422)["type"] == f"/problems/{problem}"
    assert shop.asked == []


def test_whoever_may_not_train_may_not_fetch(platform, shop):
    body = {"urls": list(shop.files)}
    platform.call("POST", ROUTE, json=body, key=platform.key("generate"), status=403)
    platform.call("POST", ROUTE, json=body, key=platform.key("admin", team="rival"), status=404)
    assert shop.asked == []


@pytest.mark.parametrize("networks", ["", "127.0.0.1/32"])
def test_a_server_fetches_from_its_own_network_where_the_operator_allows_it(tmp_path, networks):
    with file_server() as files:
        for platform in platform_in(tmp_path, webhook_networks=networks):
            platform.call("POST", "/v1/categories", json=NEW, status=201)
            ((_, (_, files.files["/1.png"])),) = platform.photos(1)
            files.redirects["/moved.png"] = f"http://127.0.0.2:{files.port}/1.png"
            body = {"urls": [f"{files.url}/1.png", f"{files.url}/moved.png"]}
            taken = platform.call("POST", ROUTE, json=body, status=201)
            refusals = [photo["refusal"] for photo in taken]
            assert refusals == ([None, "unreachable"] if networks else ["unreachable"] * 2)
            assert sorted(files.asked) == (["/1.png", "/moved.png"] if networks else [])
            assert "PACKSHOT_WEBHOOK_NETWORKS" in taken[1]["explanation"]
