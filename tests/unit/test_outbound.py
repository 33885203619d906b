"""Fault 19: messages reach the servers that they may reach, pictures come from them, and no other is connected to."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network

import pytest
from file_server import FileServer, file_server

from packshot import outbound
from packshot.domain.errors import AddressRefused
from packshot.outbound import MAX_REDIRECTS, PublicFetcher, PublicPoster, is_public

HERE = [ip_network("127.0.0.1/32")]


@dataclass
class Listener:
    """A server of one's own network, and what reached it."""

    port: int = 0
    status: int = 204
    location: str = ""
    connections: int = 0
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def listener() -> Iterator[Listener]:
    seen = Listener()

    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            seen.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.received.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(seen.status)
            if seen.location:
                self.send_header("Location", seen.location)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:
        seen.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield seen
        server.shutdown()
        thread.join()


def test_a_message_arrives_where_the_operator_allows_it(listener):
    poster = PublicPoster(HERE)
    url = f"http://127.0.0.1:{listener.port}/hook?team=a"
    assert poster.post(url, b"{}", {"webhook-id": "msg_1"}) == 204
    ((path, headers, body),) = listener.received
    assert (path, body, headers["webhook-id"]) == ("/hook?team=a", b"{}", "msg_1")
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{listener.port}"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "localhost",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.0.0.1",
        "100.64.0.1",
        "192.168.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_no_private_listener_is_connected_to_however_it_is_spelled(listener, host, scheme):
    with pytest.raises(AddressRefused):
        PublicPoster().post(f"{scheme}://{host}:{listener.port}/", b"", {})
    with pytest.raises(AddressRefused):
        PublicFetcher().fetch(f"{scheme}://{host}:{listener.port}/", 1000)
    assert listener.connections == 0


def test_a_redirect_is_an_answer_and_not_followed(listener):
    listener.status, listener.location = 307, f"http://127.0.0.1:{listener.port}/secret"
    assert PublicPoster(HERE).post(f"http://127.0.0.1:{listener.port}/hook", b"", {}) == 307
    assert [path for path, _, _ in listener.received] == ["/hook"]


def test_a_name_is_looked_up_once_and_the_connection_goes_there(listener):
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    asked: list[str] = []

    def rebinding(host: str, _: int) -> list[str]:
        asked.append(host)
        return answers.pop(0)

    poster = PublicPoster(HERE, resolve=rebinding)
    assert poster.post(f"http://shop.example:{listener.port}/", b"", {}) == 204
    assert asked == ["shop.example"]
    assert listener.received[0][1]["host"] == f"shop.example:{listener.port}"
    with pytest.raises(AddressRefused, match="PACKSHOT_WEBHOOK_NETWORKS"):
        poster.post(f"http://shop.example:{listener.port}/", b"", {})
    assert listener.connections == 1


@pytest.mark.parametrize(
    "answer", [[], ["93.184.215.14", "127.0.0.1"], ["127.0.0.1", "93.184.215.14"], ["fe80::1%eth0"]]
)
def test_a_name_with_one_private_address_is_refused(listener, answer):
    with pytest.raises(AddressRefused):
        PublicPoster(resolve=lambda *_: answer).post(f"https://shop.example:{listener.port}/", b"", {})
    with pytest.raises(AddressRefused):
        PublicFetcher(resolve=lambda *_: answer).fetch(f"https://shop.example:{listener.port}/", 1000)
    assert listener.connections == 0


def test_public_addresses_are_reached_by_https_alone():
    assert is_public(ip_address("93.184.215.14"))
    assert is_public(ip_address("2606:2800:21f:cb07:6820:80da:af6b:8b2c"))
    with pytest.raises(AddressRefused, match="https"):
        PublicPoster(resolve=lambda *_: ["93.184.215.14"]).post("http://shop.example/", b"", {})


def test_a_server_that_does_not_answer_is_told_so():
    with pytest.raises(AddressRefused, match="does not answer"):
        PublicPoster(HERE).post("http://127.0.0.1:1/", b"", {})

    def unknown(*_: object) -> list[str]:
        raise OSError("unknown name")

    with pytest.raises(AddressRefused, match="has no address"):
        PublicPoster(HERE, resolve=unknown).post("https://nowhere.example/", b"", {})


# pictures


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        server.files["/apple.png"] = b"a picture"
        yield server


def test_redirects_are_followed_to_the_picture(files):
    files.redirects = {"/1": "/2", "/2": f"http://localhost:{files.port}/3#part", "/3": "apple.png"}
    fetcher = PublicFetcher(HERE, resolve=lambda *_: ["127.0.0.1"])
    assert fetcher.fetch(f"{files.url}/1", 1000) == b"a picture"
    assert files.asked == ["/1", "/2", "/3", "/apple.png"]


def test_redirects_end(files):
    files.redirects["/round"] = "/round"
    with pytest.raises(AddressRefused, match="redirects more than 3 times"):
        PublicFetcher(HERE).fetch(f"{files.url}/round", 1000)
    assert len(files.asked) == 1 + MAX_REDIRECTS


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:{port}/apple.png",
        "//127.0.0.2:{port}/apple.png",
        "https://[::ffff:127.0.0.2]:{port}/apple.png",
        "http://inside.example:{port}/apple.png",
        "file:///etc/hostname",
        "ftp://127.0.0.1:{port}/apple.png",
        "http://user:word@127.0.0.1:{port}/apple.png",
        "http://127.0.0.1:99999/",
        "http://[::1",
    ],
)
def test_a_redirect_leads_nowhere_where_a_url_may_not(files, target):
    files.redirects["/out"] = target.format(port=files.port)
    fetcher = PublicFetcher(
        HERE, resolve=lambda host, port: ["10.0.0.1"] if host == "inside.example" else outbound.resolve(host, port)
    )
    with pytest.raises(AddressRefused):
        fetcher.fetch(f"{files.url}/out", 1000)
    assert files.asked == ["/out"]


def test_a_name_is_looked_up_anew_for_each_redirect_and_once(files):
    files.redirects["/out"] = f"http://shop.example:{files.port}/apple.png"
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    fetcher = PublicFetcher(HERE, resolve=lambda *_: answers.pop(0))
    with pytest.raises(AddressRefused, match="no public address"):
        fetcher.fetch(f"http://shop.example:{files.port}/out", 1000)
    assert (files.asked, answers) == (["/out"], [])


def test_a_picture_that_breaks_off_is_refused(files):
    files.cut.add("/apple.png")
    with pytest.raises(AddressRefused, match="IncompleteRead"):
        PublicFetcher(HERE).fetch(f"{files.url}/apple.png", 1000)


def test_a_server_that_never_ends_is_left(files, monkeypatch):
    monkeypatch.setattr(outbound, "FETCH_TIMEOUT_S", 0.5)
    files.stalled.add("/apple.png")
    with pytest.raises(AddressRefused, match="TimeoutError"):
        PublicFetcher(HERE).fetch(f"{files.url}/apple.png", 1000)


def test_pictures_come_from_public_addresses_by_http_too(monkeypatch):
    tried: list[object] = []

    def connect(where: tuple[str, int], *_: object) -> None:
        tried.append(where)
        raise ConnectionRefusedError("not in a test")

    monkeypatch.setattr(outbound.socket, "create_connection", connect)
    with pytest.raises(AddressRefused, match="not in a test"):
        PublicFetcher(resolve=lambda *_: ["93.184.215.14"]).fetch("http://shop.example/apple.png", 1000)
    assert tried == [("93.184.215.14", 80)]
