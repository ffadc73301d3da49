"""Which addresses a webhook may be sent to.

A webhook URL is written by a stranger and called from inside the operator's network. So a URL is taken apart
by one strict grammar, its host is resolved once, and it is refused if *any* of its addresses is not public,
unless the operator's WEBHOOK_ALLOW names the host or a network. Whoever connects, connects to the addresses
in the `Target`, never to the name again: a second look-up could give another answer.
"""

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.webhooks.fair_share import FairShare
from storage.webhooks.url import InvalidURL as InvalidURL
from storage.webhooks.url import URLParts, is_host_name, parse_url

if TYPE_CHECKING:
    from storage.webhooks.own_servers import OwnServers

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Names that mean something inside a network alone. Where WEBHOOK_ALLOW has neither the name nor any network, they are
# refused unasked: nobody learns which of them exist. Else each of their addresses must be in those networks.
PRIVATE_DOMAINS = (".localhost", ".local", ".internal")

# A resolver that hangs keeps its thread until it gives up by itself (glibc: 5 s × 2 tries × name servers), so
# the threads that may hang at once are counted, and those who ask share them: nobody's names take all of them.
MAX_LOOKUPS_AT_ONCE = 64
_lookups = FairShare(MAX_LOOKUPS_AT_ONCE)
_lookup_ended = threading.Condition()


class ForbiddenAddress(ValueError):
    """The host has an address that is not public, or a name that has none anywhere (`address` is None).

    The message names the WEBHOOK_ALLOW value that would let it through. It doesn't tell the address of a
    name: whoever submits predictions is not thereby entitled to ask the internal DNS.
    """

    def __init__(self, host: str, address: str | None) -> None:
        self.host = host
        self.address = address
        allow = host
        if address is None:
            what = f"{host} is a name of private networks"
        elif host == address:
            what = f"{host} is an address that is not public"
        elif ":" in host:
            what, allow = f"{host} stands for {address}, an address that is not public", address
        else:
            what = f"{host} resolves to an address that is not public"
        super().__init__(
            f"{what}; WEBHOOK_ALLOW={allow} would allow it (a comma-separated list of networks and exact host names)"
        )


class OwnServerRefused(ForbiddenAddress):
    """The URL leads to this service's own Postgres, S3 server or API, which no setting allows."""

    def __init__(self, host: str, port: int) -> None:
        ValueError.__init__(
            self, f"port {port} of {host} belongs to this service itself; webhooks are never sent to its own servers"
        )
        self.host = host
        self.address = None


class Unresolvable(OSError):
    """The host name has no address at the moment, or the name server didn't answer in time."""


@dataclass(frozen=True)
class AllowList:
    """What WEBHOOK_ALLOW permits beyond public addresses, and what nothing permits."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    never: "OwnServers | None" = None

    @classmethod
    def parse(cls, text: str) -> "AllowList":
        """Read `10.0.0.0/8,hook.internal,::1`: networks, addresses and exact host names.

        Raises ValueError, naming the item, for anything else (`*.internal` is not a host name).
        """
        networks: list[Network] = []
        hosts: set[str] = set()
        for item in (part.strip() for part in text.split(",")):
            if not item:
                continue
            try:
                networks.append(_unmapped_network(ipaddress.ip_network(item, strict=False)))
            except ValueError:
                host = item.lower().removesuffix(".")
                if not is_host_name(host):
                    raise ValueError(
                        f"WEBHOOK_ALLOW: {item!r} is not a network (10.0.0.0/8), an address or a host name"
                    ) from None
                hosts.add(host)
        return cls(tuple(networks), frozenset(hosts))

    def allows(self, host: str, address: Address) -> bool:
        return host in self.hosts or any(address in network for network in self.networks)


@dataclass(frozen=True)
class Target:
    """A URL whose every address has been judged. Connect to `addresses`, speak to `url.host`."""

    url: URLParts
    addresses: tuple[Address, ...]

    @property
    def is_private(self) -> bool:
        """Whether any of its addresses is one that only the allow-list lets through."""
        return not all(map(is_public, self.addresses))


def check_url(url: str, allow: AllowList, *, timeout_s: float = 5.0, asked_by: Hashable = None) -> None:
    """Judge a webhook URL at the moment it is submitted. Raises as `resolve` does."""
    resolve(url, allow, timeout_s=timeout_s, asked_by=asked_by)


def resolve(url: str, allow: AllowList, *, timeout_s: float = 5.0, asked_by: Hashable = None) -> Target:
    """Take a URL apart, look its host up once, and judge every address.

    `asked_by` names whose URL it is (a token): look-ups that hang keep only their own asker's next ones waiting.
    Raises InvalidURL, ForbiddenAddress (OwnServerRefused is one), or Unresolvable (also when the look-up takes longer
    than timeout_s).
    """
    parts = parse_url(url)
    is_private_name = parts.host.endswith(PRIVATE_DOMAINS)
    if is_private_name and not allow.networks and parts.host not in allow.hosts:
        raise ForbiddenAddress(parts.host, None)
    literal = _literal_address(parts.host)
    addresses = [literal] if literal is not None else look_up(parts.host, parts.port, timeout_s, asked_by)
    for address in addresses:
        if (is_private_name or not is_public(address)) and not allow.allows(parts.host, address):
            raise ForbiddenAddress(parts.host, None if is_private_name else str(address))
    # Last: where private addresses are refused anyway, the answer doesn't tell which of them are our own.
    if allow.never is not None and allow.never.include(parts.host, parts.port, addresses):
        raise OwnServerRefused(parts.host, parts.port)
    return Target(parts, tuple(addresses))


def _literal_address(host: str) -> Address | None:
    try:
        return unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def _unmapped_network(network: Network) -> Network:
    """`::ffff:10.0.0.0/104` is 10.0.0.0/8: addresses are judged by the IPv4 address that they stand for."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return network if mapped is None else ipaddress.ip_network(f"{mapped}/{max(0, network.prefixlen - 96)}")


def look_up(host: str, port: int, timeout_s: float, asked_by: Hashable = None) -> list[Address]:
    """Every address of a host name, in the system's order of preference. Raises Unresolvable."""
    deadline = time.monotonic() + timeout_s
    with _lookup_ended:
        if not _lookup_ended.wait_for(lambda: _lookups.has_room_for(asked_by), max(0.0, timeout_s)):
            raise Unresolvable(f"{host}: too many look-ups are already waiting for the name server")
        _lookups.take(asked_by)
    answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            answer.put([str(info[4][0]) for info in found])
        except (OSError, UnicodeError) as error:
            answer.put(error)
        finally:
            with _lookup_ended:
                _lookups.give_back(asked_by)
                _lookup_ended.notify_all()

    # getaddrinfo can't be told how long to take. A daemon: a hung look-up must not keep a process alive.
    threading.Thread(target=ask, name=f"lookup-{host}", daemon=True).start()
    try:
        found = answer.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise Unresolvable(f"{host}: the name server didn't answer within {timeout_s:g} s") from None
    if isinstance(found, Exception):
        raise Unresolvable(f"{host}: {found}") from found
    addresses = []
    for text in dict.fromkeys(found):
        if "%" in text:  # a link-local address with its zone
            raise ForbiddenAddress(host, text)
        addresses.append(unmapped(ipaddress.ip_address(text)))
    if not addresses:
        raise Unresolvable(f"{host}: no address")
    return addresses


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet: one host, anywhere, not this network.

    Stricter than `ipaddress.is_global`, which passes multicast, ::/96, 64:ff9b::/96, fec0::/10, 5f00::/16
    and, before Python 3.13, 2002::/16 and 3fff::/20. IPv6 is judged by what is handed out (2000::/3) rather
    than by a list of exceptions. An IPv4-mapped IPv6 address is judged as its IPv4 address.
    """
    address = unmapped(address)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None or address not in _IPV6_UNICAST:
            return False
        return address.is_global and not any(address in network for network in _IPV6_NOT_PUBLIC)
    return (
        address.is_global and not address.is_multicast and not any(address in network for network in _IPV4_NOT_PUBLIC)
    )


def unmapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


# The IANA special-purpose registries of 2025-05, so that the answer doesn't depend on the Python version.
_IPV4_NOT_PUBLIC = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; also cloud metadata (100.100.100.200)
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # looks public, but is every Azure machine's own host
        "169.254.0.0/16",  # link-local; cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; also cloud metadata (192.0.0.192)
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112: answers of the nearest sink, whoever runs it
        "192.52.193.0/24",  # automatic multicast tunnels: the nearest relay
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
_IPV6_NOT_PUBLIC = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo (which embeds IPv4) among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: embeds IPv4
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)
