"""Fault test 19: webhooks and URLs of photos that lead to this machine or a private network, however they are written."""

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from unittest.mock import patch
from urllib.parse import quote

from api import Platform, platform_in
from file_server import FileServer, file_server

from faults.registry import Check, Setting, fault
from packshot import outbound
from packshot.domain.errors import AddressRefused
from packshot.outbound import PublicFetcher, PublicPoster, Resolve, is_public, resolve
from packshot.services.fetching import MAX_URLS
from packshot.services.models import register_base
from packshot.services.webhooks import deliver_due

HERE = [ip_network("127.0.0.1/32")]
LOCAL = "127.0.0.0/8"
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "0.0.0.0/8")
MOST_WEBHOOKS = 10  # of a team
PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")


@fault(19, "private addresses", passes="no connection to a private listener")
def private_addresses(setting: Setting) -> list[Check]:
    """Spellings of addresses, by themselves, as webhooks of a server, as URLs of photos and as what those redirect to; names
    that lead elsewhere at each look-up.
    """
    num_addresses = 2 if setting.quick else 50
    chance = random.Random(setting.seed)
    networks = [LOCAL] * num_addresses + [each for each in PRIVATE for _ in range(num_addresses)]
    hosts = [spelled for each in networks for spelled in spellings(_within(each, chance))]
    with file_server() as redirecting, _watched() as (port, arrived), _noted_connections() as connections:
        urls = [f"{scheme}://{host}:{port}/" for host in hosts for scheme in ("http", "https")]
        outcomes = [_tried(url, send) for url in urls for send in (_post, _fetch)]
        rebound = [_rebound(chance, port, send) for send in (_post, _fetch) for _ in range(num_addresses * 20)]
        redirected = _redirected(redirecting, urls[:: 1 + len(urls) // (100 if setting.quick else 3000)])
        for platform in platform_in(setting.workdir, requests_per_minute=1_000_000):
            hooks = _delivered(platform, [f"https://{host}:{port}/" for host in hosts[:: 1 + len(hosts) // 300]])
            photos = _taken_in(platform, urls[:: 1 + len(urls) // (100 if setting.quick else 600)])
    allowed = (str(HERE[0].network_address), redirecting.port)
    forbidden = [where[0] for where in connections if where != allowed and not is_public(ip_address(where[0]))]
    checks = [
        _check("refused, however it is spelled", outcomes),
        _check("a name with a private address is refused, one that changes is looked up once", rebound),
        _check("a redirect of a photo there is refused", redirected),
        _check("a server's webhook is refused or not delivered", hooks),
        _check("a server takes no photo from there", photos),
    ]
    tried = sum(check.cases for check in checks)
    return [
        *checks,
        Check(label="no connection is attempted", cases=tried, passed=tried - len(forbidden), failures=forbidden[:20]),
        Check(label="nothing reached a listener on every address", cases=tried, passed=tried - len(arrived)),
    ]


def _check(label: str, outcomes: list[str]) -> Check:
    failures = [each for each in outcomes if each]
    return Check(label=label, cases=len(outcomes), passed=len(outcomes) - len(failures), failures=failures)


def _within(network: str, chance: random.Random) -> IPv4Address:
    return IPv4Network(network)[chance.randrange(IPv4Network(network).num_addresses)]


def spellings(address: IPv4Address) -> list[str]:
    """Ways to write an IPv4 address in a URL that some resolver understands."""
    number, (a, b, c, d) = int(address), address.packed
    six = [IPv6Address(prefix | number) for prefix in (0, 0xFFFF << 32, int(IPv6Address("64:ff9b::")))]
    six += [IPv6Address(0x2002 << 112 | number << 80 | 1), IPv6Address(0x20010000 << 96 | (number ^ 0xFFFFFFFF))]
    wide = str(address).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    return [
        str(address),
        str(number),
        hex(number),
        hex(number).upper().replace("0X", "0x"),
        f"0{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        ".".join(f"0{each:o}" for each in (a, b, c, d)),
        ".".join(f"000{each:o}" for each in (a, b, c, d)),
        ".".join(hex(each) for each in (a, b, c, d)),
        f"{hex(a)}.{b}.0{c:o}.{d}",
        wide,
        str(address).replace(".", "\u3002"),
        f"[::ffff:{address}]",
        f"[0:0:0:0:0:ffff:{address}]",
        *(f"[{each}]" for each in six),
        *(f"[{each.exploded}]" for each in six),
    ]


@contextmanager
def _watched() -> Iterator[tuple[int, list[str]]]:
    """A listener on every address of this machine, and who has connected to it."""
    arrived: list[str] = []
    with socket.create_server(("0.0.0.0", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connection, (address, _) = listening.accept()
                except OSError:
                    return
                arrived.append(address)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], arrived


@contextmanager
def _noted_connections() -> Iterator[list[tuple[str, int]]]:
    """Where requests would go; connections to public addresses fail instead of leaving this machine."""
    noted: list[tuple[str, int]] = []
    real = socket.create_connection

    def connect(where: tuple[str, int], *arguments: object):  # type: ignore[no-untyped-def]
        noted.append(where)
        if is_public(ip_address(where[0])):
            raise OSError("not in a test")
        return real(where, *arguments)  # type: ignore[arg-type]

    with patch.object(outbound.socket, "create_connection", connect):
        yield noted


def _post(url: str, resolve: Resolve = resolve) -> object:
    return PublicPoster(resolve=resolve).post(url, b"", {})


def _fetch(url: str, resolve: Resolve = resolve) -> object:
    return PublicFetcher(resolve=resolve).fetch(url, 1000)


def _tried(url: str, send: Callable[[str], object]) -> str:
    """What went wrong where it was not refused."""
    try:
        reply = send(url)
    except AddressRefused:
        return ""
    except Exception as error:  # noqa: BLE001 whatever else it raises is a finding
        return f"{url}: {type(error).__name__}: {error}"
    return f"{url}: gave {reply}"


def _rebound(chance: random.Random, port: int, send: Callable[[str, Resolve], object]) -> str:
    """A name with other addresses at every look-up, public and private ones in any order."""
    asked = 0
    private = str(_within(chance.choice([LOCAL, *PRIVATE]), chance))

    def resolve(_: str, __: int) -> list[str]:
        nonlocal asked
        asked += 1
        first = chance.choice([[chance.choice(PUBLIC)], [private], [chance.choice(PUBLIC), private]])
        return first if asked == 1 else [private]

    try:
        send(f"https://shop.example:{port}/", resolve)
    except AddressRefused:
        return "" if asked == 1 else f"looked up {asked} times"
    return f"reached {private}"


def _redirected(server: FileServer, urls: list[str]) -> list[str]:
    """A server that may be fetched from, and redirects to each URL."""
    fetcher = PublicFetcher(HERE)
    outcomes: list[str] = []
    for number, url in enumerate(urls):
        path = f"/{number}"
        server.redirects[path] = url if url.isascii() else quote(url, safe=":/[]")
        found = _tried(f"{server.url}{path}", lambda each: fetcher.fetch(each, 1000))
        outcomes.append(found or ("" if path in server.asked else f"{url}: no redirect"))
    return outcomes


def _taken_in(platform: Platform, urls: list[str]) -> list[str]:
    """Photos to fetch, several in a request, as a request is refused whole for what is no URL; what went wrong."""
    category = platform.call("POST", "/v1/categories", json={"path": "apple/fuji", "class_noun": "apple"}, status=201)
    outcomes: list[str] = []
    for start in range(0, len(urls), MAX_URLS):
        body = {"urls": [each for each in urls[start : start + MAX_URLS] if each.isascii()]}
        route = f"/v1/categories/{category['identifier']}/references/urls"
        taken = platform.call("POST", route, json=body, status=201)
        right = len(taken) == len(set(body["urls"])) and all(each["refusal"] == "unreachable" for each in taken)
        outcomes += [""] * len(taken) if right else [f"{body}: {taken}"]
    for url in [each for each in urls if not each.isascii()][:10]:
        platform.call("POST", route, json={"urls": [url]}, status=422)
        outcomes.append("")
    return outcomes


def _delivered(platform: Platform, urls: list[str]) -> list[str]:
    """A webhook for each URL, told of the end of a job; what went wrong for each."""
    records = platform.space.records
    register_base(records, platform.space.bases.describe("embedded"))
    outcomes: list[str] = []
    hooked: list[tuple[dict[str, str], str, str]] = []
    for start in range(0, len(urls), MOST_WEBHOOKS):
        key = platform.key("admin", team=f"team{start}")
        for url in urls[start : start + MOST_WEBHOOKS]:
            reply = platform.client.post("/v1/webhooks", json={"url": url}, headers=key)
            if reply.status_code == 201:
                hooked.append((key, reply.json()["id"], url))
            else:
                outcomes.append("" if reply.status_code == 422 else f"{url}: {reply.status_code} {reply.text[:200]}")
        made = platform.call("POST", "/v1/generations", json={"prompt": "plain"}, status=202, key=key)
        platform.call("POST", made["urls"]["cancel"], key=key)
    while deliver_due(records, PublicPoster(), platform.space.secret_key):
        pass
    for key, webhook_id, url in hooked:
        sent = platform.call("GET", f"/v1/webhooks/{webhook_id}/deliveries", key=key)["items"]
        right = sent and all(each["status"] != "delivered" and each["last_error"] for each in sent)
        outcomes.append("" if right else f"{url}: {sent}")
    return outcomes
