"""Fault test 19: webhooks that lead to this machine or a private network, however the address is written."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from unittest.mock import patch

from api import Platform, platform_in

from faults.registry import Check, Setting, fault
from packshot import outbound
from packshot.domain.errors import AddressRefused
from packshot.outbound import PublicPoster, is_public
from packshot.services.models import register_base
from packshot.services.webhooks import deliver_due

LOCAL = "127.0.0.0/8"
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "0.0.0.0/8")
MOST_WEBHOOKS = 10  # of a team
PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")


@fault(19, "private addresses", passes="no connection to a private listener")
def private_addresses(setting: Setting) -> list[Check]:
    """Spellings of addresses, by themselves and as webhooks of a server; names that lead elsewhere at each look-up."""
    num_addresses = 2 if setting.quick else 50
    chance = random.Random(setting.seed)
    networks = [LOCAL] * num_addresses + [each for each in PRIVATE for _ in range(num_addresses)]
    hosts = [spelled for each in networks for spelled in spellings(_within(each, chance))]
    with _watched() as (port, arrived), _noted_connections() as connections:
        outcomes = [_posted(f"{scheme}://{host}:{port}/") for host in hosts for scheme in ("http", "https")]
        rebound = [_rebound(chance, port) for _ in range(num_addresses * 20)]
        for platform in platform_in(setting.workdir, requests_per_minute=1_000_000):
            hooks = _delivered(platform, [f"https://{host}:{port}/" for host in hosts[:: 1 + len(hosts) // 300]])
    forbidden = [address for address in connections if not is_public(ip_address(address))]
    tried = len(outcomes) + len(rebound) + len(hooks)
    return [
        _check("refused, however it is spelled", outcomes),
        _check("a name with a private address is refused, one that changes is looked up once", rebound),
        _check("a server's webhook is refused or not delivered", hooks),
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
def _noted_connections() -> Iterator[list[str]]:
    """The addresses that messages would go to; connections to public ones fail instead of leaving this machine."""
    addresses: list[str] = []
    real = socket.create_connection

    def connect(where: tuple[str, int], *arguments: object):  # type: ignore[no-untyped-def]
        addresses.append(where[0])
        if is_public(ip_address(where[0])):
            raise OSError("not in a test")
        return real(where, *arguments)  # type: ignore[arg-type]

    with patch.object(outbound.socket, "create_connection", connect):
        yield addresses


def _posted(url: str) -> str:
    try:
        status = PublicPoster().post(url, b"", {})
    except AddressRefused:
        return ""
    except Exception as error:  # noqa: BLE001 whatever else it raises is a finding
        return f"{url}: {type(error).__name__}: {error}"
    return f"{url}: answered {status}"


def _rebound(chance: random.Random, port: int) -> str:
    """A name with other addresses at every look-up, public and private ones in any order."""
    asked = 0
    private = str(_within(chance.choice([LOCAL, *PRIVATE]), chance))

    def resolve(_: str, __: int) -> list[str]:
        nonlocal asked
        asked += 1
        first = chance.choice([[chance.choice(PUBLIC)], [private], [chance.choice(PUBLIC), private]])
        return first if asked == 1 else [private]

    try:
        PublicPoster(resolve=resolve).post(f"https://shop.example:{port}/", b"", {})
    except AddressRefused:
        return "" if asked == 1 else f"looked up {asked} times"
    return f"reached {private}"


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
    while deliver_due(records, PublicPoster()):
        pass
    for key, webhook_id, url in hooked:
        sent = platform.call("GET", f"/v1/webhooks/{webhook_id}/deliveries", key=key)["items"]
        right = sent and all(each["status"] != "delivered" and each["last_error"] for each in sent)
        outcomes.append("" if right else f"{url}: {sent}")
    return outcomes
