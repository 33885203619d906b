"""Implements Poster and Fetcher: HTTP to servers of other people, and never by accident to one of one's own network.

A name is looked up once, every address that it has is checked, and the connection goes to one of those very addresses: a
name that leads elsewhere a moment later changes nothing. Redirects of a message are not followed, those of a picture are
checked like its URL. Proxies of the environment are not used.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urldefrag, urljoin, urlsplit

from packshot.domain.errors import AddressRefused, InvalidInput
from packshot.domain.urls import MAX_URL_LENGTH, check_url

TIMEOUT_S = 15.0
FETCH_TIMEOUT_S = 20.0
MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_FETCHING = {"Accept": "image/*", "User-Agent": "packshot"}
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Every address of ``host``, in the order of preference. Raises OSError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class _Public:
    """Talks to public addresses, and to addresses in ``allowed`` networks."""

    _https_alone: bool
    """Whether public addresses are talked to by https alone; allowed networks are by http too."""

    def __init__(self, allowed: Sequence[Network] = (), *, resolve: Resolve = resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    @contextmanager
    def _exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The reply, to be read within the context; what goes wrong with it raises AddressRefused."""
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        address = self._checked(host, port, secure=secure)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = _Pinned(host, port, address, secure=secure, timeout_s=timeout_s)
        deadline = threading.Timer(timeout_s, connection.cut)
        deadline.start()
        try:
            connection.request(method, target, body, {"Connection": "close", **headers})
            yield connection.getresponse()
            if connection.was_cut:
                raise TimeoutError("it took too long")
        except (OSError, http.client.HTTPException) as error:
            raise AddressRefused(f"{host}:{port} does not answer ({type(error).__name__}: {error})") from error
        finally:
            deadline.cancel()
            connection.close()

    def _checked(self, host: str, port: int, *, secure: bool) -> str:
        """The address to connect to."""
        try:
            found = [ip_address(each.partition("%")[0]) for each in self._resolve(host, port)]
        except (OSError, UnicodeError, ValueError) as error:
            raise AddressRefused(f"{host} has no address ({error})") from error
        if found and all(self._is_allowed(each) for each in found):
            return str(found[0])
        if not found or not all(is_public(each) or self._is_allowed(each) for each in found):
            raise AddressRefused(
                f"{host} is no public address; the operator can allow its network with PACKSHOT_WEBHOOK_NETWORKS"
            )
        if self._https_alone and not secure:
            raise AddressRefused(f"{host} is a public address, and messages go there by https alone")
        return str(found[0])

    def _is_allowed(self, address: Address) -> bool:
        return any(inner in network for inner in (address, _inner(address)) for network in self._allowed)


class PublicPoster(_Public):
    """Posts to public addresses by https, and to addresses in ``allowed`` networks by http too."""

    _https_alone = True

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the reply; see the port."""
        about = {"Content-Type": "application/json", "User-Agent": "packshot-webhooks", **headers}
        with self._exchange("POST", url, body, about, TIMEOUT_S) as reply:
            return reply.status


class PublicFetcher(_Public):
    """Fetches from public addresses and ``allowed`` networks, by http and https; each redirect is checked anew."""

    _https_alone = False

    def fetch(self, url: str, max_bytes: int) -> bytes:
        """What ``url`` gives; see the port."""
        ends_at = time.monotonic() + FETCH_TIMEOUT_S
        for _ in range(1 + MAX_REDIRECTS):
            left_s = max(ends_at - time.monotonic(), 0.001)
            with self._exchange("GET", _checked_form(url), None, _FETCHING, left_s) as reply:
                if reply.status == HTTPStatus.OK:
                    return _body(reply, max_bytes)
                if reply.status not in _REDIRECTS:
                    raise AddressRefused(f"{urlsplit(url).hostname} answers {reply.status} instead of a picture")
                url = _redirected(url, reply.headers.get("Location", ""))
        raise AddressRefused(f"it redirects more than {MAX_REDIRECTS} times")


def _checked_form(url: str) -> str:
    try:
        return check_url(url, of="a picture", max_length=MAX_URL_LENGTH)
    except InvalidInput as error:
        raise AddressRefused(str(error)) from error


def _redirected(url: str, location: str) -> str:
    try:
        return urldefrag(urljoin(url, location)).url
    except ValueError as error:
        raise AddressRefused(f"it redirects to {location[:200]!r}, which is no URL ({error})") from error


def _body(reply: http.client.HTTPResponse, max_bytes: int) -> bytes:
    body = reply.read(max_bytes)
    if reply.length and len(body) < max_bytes:
        raise http.client.IncompleteRead(body, reply.length)
    return body


def is_public(address: Address) -> bool:
    """Whether ``address``, and what is mapped into it, belongs to the public internet."""
    inner = _inner(address)
    return all(each.is_global and not each.is_multicast and not each.is_reserved for each in {address, inner})


def _inner(address: Address) -> Address:
    """The IPv4 address inside a mapped, 6to4, Teredo or NAT64 one; else ``address``."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


class _Pinned(http.client.HTTPConnection):
    """A connection to one address, which says and checks the name ``host``."""

    def __init__(self, host: str, port: int, address: str, *, secure: bool, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address = address
        self._secure = secure
        self.was_cut = False

    def cut(self) -> None:
        """End it from another thread, however slowly the other side talks."""
        self.was_cut = True
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def connect(self) -> None:
        """Connect to the address; by TLS, check the certificate for the name."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
