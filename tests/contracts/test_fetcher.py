"""What every implementation of Fetcher must do; run on HTTP to this machine and on the fake of the unit tests."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest
from fakes import CannedFetcher
from file_server import file_server

from packshot.domain.errors import AddressRefused
from packshot.outbound import PublicFetcher
from packshot.ports import Fetcher

FILES = {"/photo.png": bytes(range(256)) * 1000, "/empty.png": b"", "/photo.png?size=2": b"small"}
Web = tuple[Fetcher, str]


class FetcherContract:
    """``web`` is a fetcher, and the address of a server that has FILES."""

    @pytest.fixture
    def web(self) -> Iterator[Web]:
        raise NotImplementedError

    @pytest.mark.parametrize("path", FILES)
    def test_a_file_comes_whole(self, web: Web, path: str) -> None:
        fetcher, url = web
        assert fetcher.fetch(url + path, 10**6) == FILES[path]

    def test_of_a_larger_file_the_beginning_comes(self, web: Web) -> None:
        fetcher, url = web
        assert fetcher.fetch(f"{url}/photo.png", 1000) == FILES["/photo.png"][:1000]
        assert fetcher.fetch(f"{url}/photo.png", 256_000) == FILES["/photo.png"]

    def test_what_is_not_there_is_refused(self, web: Web) -> None:
        fetcher, url = web
        with pytest.raises(AddressRefused, match="404"):
            fetcher.fetch(f"{url}/other.png", 1000)

    @pytest.mark.parametrize(
        "wrong", [lambda url: f"ftp:{url.partition(':')[2]}", lambda url: "/photo.png", lambda url: f"{url}#part"]
    )
    def test_what_is_no_url_of_a_picture_is_refused(self, web: Web, wrong: Callable[[str], str]) -> None:
        fetcher, url = web
        with pytest.raises(AddressRefused, match="no URL of a picture"):
            fetcher.fetch(wrong(f"{url}/photo.png"), 1000)


class TestCannedFetcher(FetcherContract):
    @pytest.fixture
    def web(self) -> Iterator[Web]:
        url = "https://shop.example"
        yield CannedFetcher({url + path: data for path, data in FILES.items()}), url


class TestPublicFetcher(FetcherContract):
    @pytest.fixture
    def web(self) -> Iterator[Web]:
        with file_server() as server:
            server.files.update(FILES)
            yield PublicFetcher([ip_network("127.0.0.1/32")]), server.url
