"""Implements Poster: HTTP to servers of other people, and never by accident to a server of one's own network.

A name is looked up once, every address that it has is checked, and the connection goes to one of those very addresses: a
name that leads elsewhere a moment later changes nothing. Redirects are not followed, proxies of the environment not used.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from packshot.domain.errors import AddressRefused

TIMEOUT_S = 15.0
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Every address of ``host``, in the order of preference. Raises OSError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class PublicPoster:
    """Posts to public addresses by https, and to addresses in ``allowed`` networks by http too."""

    def __init__(self, allowed: Sequence[Network] = (), *, resolve: Resolve = resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the reply; see the port."""
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        address = self._checked(host, port, secure=secure)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = _Pinned(host, port, address, secure=secure)
        deadline = threading.Timer(TIMEOUT_S, connection.cut)
        deadline.start()
        try:
            connection.request(
                "POST",
                target,
                body,
                {
                    "Content-Type": "application/json",
                    "User-Agent": "packshot-webhooks",
                    "Connection": "close",
                    **headers,
                },
            )
            return connection.getresponse().status
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
        if not secure:
            raise AddressRefused(f"{host} is a public address, and messages go there by https alone")
        return str(found[0])

    def _is_allowed(self, address: Address) -> bool:
        return any(inner in network for inner in (address, _inner(address)) for network in self._allowed)


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

    def __init__(self, host: str, port: int, address: str, *, secure: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S)
        self._address = address
        self._secure = secure

    def cut(self) -> None:
        """End it from another thread, however slowly the other side talks."""
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def connect(self) -> None:
        """Connect to the address; by TLS, check the certificate for the name."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
