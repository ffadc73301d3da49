"""Servers that Darkroom never sends requests to, even if WEBHOOK_ALLOW has them: its own, and those in WEBHOOK_DENY.

Darkroom's Postgres, S3 server and API may trust clients in their own network. A webhook comes from inside that
network, but a client chose its URL.
"""

from __future__ import annotations

import functools
import ipaddress
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
from psycopg.conninfo import conninfo_to_dict

from storage.outbound.dns_lookup import ForbiddenAddress, Unresolvable, look_up
from storage.outbound.parse_url import is_host_name
from storage.outbound.public_addresses import Address, is_public, unmapped
from storage.settings import Settings

LOOK_UP_TIMEOUT_S = 2.0
REMEMBER_S = 60.0
REMEMBER_INTERFACES_S = 5.0


@dataclass(frozen=True)
class DeniedServer:
    """The host and port of one server."""

    host: str  # lower case; a name or an address
    port: int | None  # None: all ports
    # Other sites may have the same public addresses (a proxy, a cloud). Then only the host name identifies our server.
    shares_public_addresses: bool = False
    has_subdomains: bool = False  # S3's bucket.host


@dataclass(frozen=True)
class DeniedServers:
    servers: tuple[DeniedServer, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> DeniedServers:
        """Raises ValueError if WEBHOOK_DENY has an invalid item. The message names the item."""
        return cls(
            tuple(
                dict.fromkeys(
                    [
                        *_of_url(settings.public_url),
                        *_of_url(settings.s3_endpoint_url, has_subdomains=True),
                        *_of_url(settings.s3_public_endpoint_url, has_subdomains=True),
                        *_of_postgres(settings.database_url),
                        *_of_postgres(settings.database_direct_url),
                        *(_parse(item.strip()) for item in settings.webhook_deny.split(",") if item.strip()),
                    ]
                )
            )
        )

    def include(self, host: str, port: int, addresses: Sequence[Address]) -> bool:
        """Whether a request to that host, which has these addresses, would reach one of the servers.

        All addresses of this machine count as the same address, because a server may listen on all of them.
        """
        return any(
            _names(server, host) or _is_at(server, addresses)
            for server in self.servers
            if server.port is None or server.port == port
        )


def _names(server: DeniedServer, host: str) -> bool:
    return host == server.host or (server.has_subdomains and host.endswith(f".{server.host}"))


def _is_at(server: DeniedServer, addresses: Sequence[Address]) -> bool:
    candidates = [each for each in addresses if not (server.shares_public_addresses and is_public(each))]
    if not candidates:
        return False
    own = _addresses_of(server.host)
    if any(each in own for each in candidates):
        return True
    return any(map(_is_this_machine, own)) and any(map(_is_this_machine, candidates))


def _of_url(url: str | None, *, has_subdomains: bool = False) -> Iterator[DeniedServer]:
    if url:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.hostname:
            yield DeniedServer(
                _normal(parts.hostname), port, shares_public_addresses=True, has_subdomains=has_subdomains
            )


def _of_postgres(url: str) -> Iterator[DeniedServer]:
    """Return each host of the URL. Unix sockets are left out: a webhook can't reach them."""
    if not url:
        return
    words = conninfo_to_dict(url)
    ports = str(words.get("port") or 5432).split(",")
    for name in ("host", "hostaddr"):
        for number, host in enumerate(str(words.get(name) or "").split(",")):
            if host and not host.startswith(("/", "@")):
                port = ports[number] if number < len(ports) else ports[0]
                yield DeniedServer(_normal(host), int(port or 5432))


def _parse(item: str) -> DeniedServer:
    """Parse `host`, `host:port`, `10.0.0.1:80`, `[::1]:80` or `::1`."""
    host, port = item, ""
    if item.startswith("["):
        host, _, rest = item[1:].partition("]")
        port = rest.removeprefix(":")
    elif item.count(":") == 1:
        host, _, port = item.partition(":")
    host = _normal(host)
    if (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)) or not _is_host(host):
        raise ValueError(f"WEBHOOK_DENY: {item!r} is not host:port, an address or a host name")
    return DeniedServer(host, int(port) if port else None)


def _is_host(host: str) -> bool:
    return _literal(host) is not None or is_host_name(host)


def _normal(host: str) -> str:
    literal = _literal(host)
    return host.lower().removesuffix(".") if literal is None else str(literal)


def _literal(host: str) -> Address | None:
    try:
        return unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


_known: dict[str, tuple[float, frozenset[Address]]] = {}
_lock = threading.Lock()


def _addresses_of(host: str) -> frozenset[Address]:
    """Look up a host at most once a minute. If the name server doesn't answer, the last known addresses are used."""
    literal = _literal(host)
    if literal is not None:
        return frozenset((literal,))
    now = time.monotonic()
    until, found = _known.get(host, (0.0, frozenset()))
    if now < until:
        return found
    with suppress(Unresolvable, ForbiddenAddress):
        found = frozenset(look_up(host, 0, LOOK_UP_TIMEOUT_S))
    with _lock:
        _known[host] = (now + REMEMBER_S, found)
    return found


def _is_this_machine(address: Address) -> bool:
    if address.is_loopback or address.is_unspecified:
        return True
    return address in _interfaces(int(time.monotonic() / REMEMBER_INTERFACES_S))


@functools.lru_cache(maxsize=1)
def _interfaces(_moment: int) -> frozenset[Address]:
    found = set()
    for each in (each for addresses in psutil.net_if_addrs().values() for each in addresses):
        literal = _literal(each.address.partition("%")[0])
        if literal is not None:
            found.add(literal)
    return frozenset(found)
