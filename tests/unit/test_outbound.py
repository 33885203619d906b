"""Fault 19: messages reach the servers that they may reach, and no other."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network

import pytest

from packshot.domain.errors import AddressRefused
from packshot.outbound import PublicPoster, is_public

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
    poster = PublicPoster(resolve=lambda *_: answer)
    with pytest.raises(AddressRefused):
        poster.post(f"https://shop.example:{listener.port}/", b"", {})
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
