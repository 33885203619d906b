from dataclasses import dataclass, field, replace

import pytest
from fakes import CannedFetcher
from photos import GREEN, save_photo

from packshot.domain.errors import InvalidInput, RefusalReason
from packshot.domain.references import ReferenceImage, Rights
from packshot.imaging.decode import MAX_FILE_BYTES
from packshot.services.fetching import MAX_AT_ONCE, MAX_TOTAL_S, MAX_URLS, fetch_photos
from packshot.services.references import add_references, check_references

SHOP = "https://shop.example"
RIGHTS = Rights(license="CC0-1.0")


@dataclass
class Shop:
    """A category, and a server of somebody else with photos of it."""

    space: object
    web: CannedFetcher = field(default_factory=lambda: CannedFetcher({}))
    num_folders: int = 0

    def __post_init__(self) -> None:
        self.category = self.space.category("gala", 0)

    def picture(self, url: str, seed: int) -> None:
        save_photo(self.space.folder / "shot.png", seed, GREEN)
        self.web.files[url] = (self.space.folder / "shot.png").read_bytes()

    def add(self, *urls: str, captions=None, rights=RIGHTS) -> list[ReferenceImage]:
        self.num_folders += 1
        folder = self.space.folder / f"fetched{self.num_folders}"
        folder.mkdir()
        photos = fetch_photos(self.web, urls, folder, captions or {})
        return add_references(self.space.records, self.space.blobs, self.category, photos, rights)


class SlowWeb:
    """A web on which each photo takes as long as all may; the clock that sees it."""

    def __init__(self, web: CannedFetcher) -> None:
        self._web, self._num_fetched = web, 0

    def fetch(self, url: str, max_bytes: int) -> bytes:
        self._num_fetched += 1
        return self._web.fetch(url, max_bytes)

    def seconds(self) -> float:
        return self._num_fetched * MAX_TOTAL_S


@pytest.fixture
def shop(space) -> Shop:
    return Shop(space)


def test_a_photo_from_a_url_is_one_like_any_other_and_says_where_it_is_from(shop):
    url = f"{SHOP}/apples/red%20apple.png?size=large"
    shop.picture(url, 1)
    (photo,) = shop.add(url, captions={url: "an apple\non grass"})
    assert photo.accepted
    assert (photo.file_name, photo.caption) == ("red apple.png", "an apple on grass")
    assert photo.rights == replace(RIGHTS, source=url)
    assert shop.space.blobs.get(photo.original) == shop.web.files[url]
    assert check_references(shop.space.records, shop.category).images == (photo,)


def test_slow_urls_leave_no_time_for_the_others_which_may_be_sent_again(shop):
    urls = [f"{SHOP}/{number}.png" for number in range(MAX_AT_ONCE + 2)]
    for number, url in enumerate(urls):
        shop.picture(url, number)
    clock = SlowWeb(shop.web)
    folder = shop.space.folder / "slow"
    folder.mkdir()
    photos = fetch_photos(clock, urls, folder, {}, clock=clock.seconds)
    in_time = [photo for photo in photos if not photo.missing]
    assert 1 <= len(in_time) <= MAX_AT_ONCE
    late = [photo for photo in photos if photo.missing]
    assert "not begun within 60 s" in late[-1].missing
    taken = add_references(shop.space.records, shop.space.blobs, shop.category, photos, RIGHTS)
    assert {each.refusal for each in taken[len(urls) - 1 :]} == {RefusalReason.UNREACHABLE}
    again = shop.add(*(photo.url for photo in late))
    assert all(photo.accepted for photo in again)


def test_what_is_said_of_the_source_stands_before_the_url(shop):
    shop.picture(f"{SHOP}/1.png", 1)
    (photo,) = shop.add(f"{SHOP}/1.png", rights=Rights(source="our web shop"))
    assert photo.rights.source == f"our web shop {SHOP}/1.png"


def test_one_that_cannot_be_fetched_is_refused_and_the_others_are_kept(shop):
    shop.picture(f"{SHOP}/1.png", 1)
    shop.picture(f"{SHOP}/3.png", 3)
    shop.web.files[f"{SHOP}/page"] = b"<html>not found</html>"
    taken = shop.add(f"{SHOP}/1.png", f"{SHOP}/2.png", f"{SHOP}/page", f"{SHOP}/3.png")
    assert [photo.refusal for photo in taken] == [
        None,
        RefusalReason.UNREACHABLE,
        RefusalReason.UNSUPPORTED_FORMAT,
        None,
    ]
    assert f"{SHOP}/2.png gives no picture: it answers 404" in taken[1].explanation
    assert (taken[1].file_name, taken[1].image) == ("2.png", None)
    assert list(check_references(shop.space.records, shop.category).images) == taken


def test_a_url_may_be_tried_again_until_it_gives_a_picture(shop):
    shop.add(f"{SHOP}/1.png", f"{SHOP}/2.png")
    (again,) = shop.add(f"{SHOP}/1.png")
    assert again.refusal is RefusalReason.UNREACHABLE
    shop.picture(f"{SHOP}/1.png", 1)
    (photo,) = shop.add(f"{SHOP}/1.png")
    assert photo.accepted
    images = check_references(shop.space.records, shop.category).images
    assert [(each.file_name, each.refusal) for each in images] == [
        ("2.png", RefusalReason.UNREACHABLE),
        ("1.png", None),
    ]
    assert shop.add(f"{SHOP}/1.png") == [photo]


def test_a_url_counts_once_and_the_same_name_twice_is_two_photos(shop):
    urls = [f"{SHOP}/{name}" for name in ("a/main.png", "b/main.png", "02-main.png", "", "%2e%2e", "a%2fb.png")]
    for seed, url in enumerate(urls):
        shop.picture(url, seed)
    taken = shop.add(*urls, urls[0])
    assert len(shop.web.asked) == 6
    assert all(photo.accepted for photo in taken)
    assert len({photo.file_name for photo in taken}) == 6
    assert [photo.file_name for photo in taken][:2] == ["main.png", "02-main.png"]
    assert [shop.space.blobs.get(photo.original) for photo in taken[:6]] == [shop.web.files[url] for url in urls]


def test_a_picture_that_is_too_large_is_refused_as_in_an_upload(shop):
    shop.web.files[f"{SHOP}/1.png"] = bytes(MAX_FILE_BYTES + 1)
    (photo,) = shop.add(f"{SHOP}/1.png")
    assert photo.refusal is RefusalReason.FILE_TOO_LARGE
    assert list(shop.space.blobs) == []


@pytest.mark.parametrize(
    ("urls", "captions", "says"),
    [
        (["ftp://shop.example/1.png"], {}, "no URL of a picture"),
        (["https://user:word@shop.example/1.png"], {}, "no URL of a picture"),
        ([f"{SHOP}/{'a' * 2000}"], {}, "at most 2000 characters"),
        ([f"{SHOP}/{number}.png" for number in range(MAX_URLS + 1)], {}, "31 URLs are more than the 30"),
        ([f"{SHOP}/1.png"], {f"{SHOP}/2.png": "an apple"}, "none of the URLs"),
        ([f"{SHOP}/1.png"], {f"{SHOP}/1.png": "an apple <token>"}, "angle brackets"),
    ],
)
def test_a_request_that_cannot_be_meant_fetches_nothing(shop, urls, captions, says):
    with pytest.raises(InvalidInput, match=says):
        shop.add(f"{SHOP}/0.png", *urls[: MAX_URLS + 1], captions=captions)
    assert shop.web.asked == []
