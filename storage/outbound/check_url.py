"""Checks a URL: may a webhook be sent there, or a picture or LoRA be downloaded from there?

A client chooses the URL, and the request comes from inside the operator's network. So the URL must match a strict
grammar, and its host is resolved once. If *any* of the host's addresses is not public, the URL is refused. The operator
can allow hosts and networks with WEBHOOK_ALLOW (for pictures, INPUT_IMAGE_ALLOW). Connect only to the addresses in the
`Target`, and don't look up the name again: the second answer could be different.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from dataclasses import dataclass

from storage.outbound.denied_servers import DeniedServers
from storage.outbound.dns_lookup import ForbiddenAddress, NoSuchHost, NotPublic, look_up
from storage.outbound.parse_url import URLParts, is_host_name, parse_url
from storage.outbound.public_addresses import Address, Network, is_public, unmapped

# Names that only have a meaning inside a private network. If WEBHOOK_ALLOW has neither the name nor any network, they
# are refused without a look-up, so that a client can't find out which of them exist. Otherwise, the name or each of its
# addresses must be in WEBHOOK_ALLOW.
PRIVATE_DOMAINS = (".localhost", ".local", ".internal")


class ServerDenied(ForbiddenAddress):
    """The URL is one of Darkroom's own servers (Postgres, S3, API) or in WEBHOOK_DENY. No setting can allow it."""

    def __init__(self, host: str, port: int) -> None:
        ValueError.__init__(
            self, f"port {port} of {host} is one of Darkroom's own servers; requests are never sent to its own servers"
        )
        self.host = host
        self.address = None


@dataclass(frozen=True)
class AllowList:
    """Which hosts and networks are allowed besides public addresses, and which servers are never allowed."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    denied: DeniedServers | None = None
    setting: str = "WEBHOOK_ALLOW"  # for error messages. Empty: there is no setting to change

    @classmethod
    def parse(cls, text: str, setting: str = "WEBHOOK_ALLOW") -> AllowList:
        """Parse networks, addresses and exact host names, such as `10.0.0.0/8,hook.internal,::1`.

        Raises ValueError for any other item (`*.internal` is not a host name). The message names the item.
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
                        f"{setting}: {item!r} is not a network (10.0.0.0/8), an address or a host name"
                    ) from None
                hosts.add(host)
        return cls(tuple(networks), frozenset(hosts), setting=setting)

    def allows(self, host: str, address: Address) -> bool:
        return host in self.hosts or any(address in network for network in self.networks)


@dataclass(frozen=True)
class Target:
    """A URL whose addresses are all allowed. Connect to `addresses`; `url.host` is for TLS and the Host header."""

    url: URLParts
    addresses: tuple[Address, ...]

    @property
    def is_private(self) -> bool:
        """Whether any address is not public, so that only the allow-list allows it."""
        return not all(map(is_public, self.addresses))


def check_url(url: str, allow: AllowList, *, timeout_s: float = 5.0, owner: Hashable = None) -> Target:
    """Like `resolve`, for errors that a client sees. Raises the same errors, and NotPublic.

    A name that doesn't exist gets the same message as a name with a private address. Otherwise, a client could find out
    which names exist in this network. The error for a name in WEBHOOK_ALLOW stays NoSuchHost: the name may exist later.
    """
    try:
        return resolve(url, allow, timeout_s=timeout_s, owner=owner)
    except ServerDenied:
        raise
    except (ForbiddenAddress, NoSuchHost):
        host = parse_url(url).host
        if _literal_address(host) is not None or _needs_no_look_up(host, allow) or host in allow.hosts:
            raise
        raise NotPublic(host, allow.setting) from None


def resolve(url: str, allow: AllowList, *, timeout_s: float = 5.0, owner: Hashable = None) -> Target:
    """Parse a URL, look up its host once, and check every address.

    `owner` is the token that the URL belongs to: slow look-ups of one owner don't block the look-ups of others.
    Raises InvalidURL, ForbiddenAddress (its subclass ServerDenied included), or Unresolvable (also if the look-up takes
    longer than timeout_s).
    """
    parts = parse_url(url)
    is_private_name = parts.host.endswith(PRIVATE_DOMAINS)
    if _needs_no_look_up(parts.host, allow):
        raise ForbiddenAddress(parts.host, None, allow.setting)
    literal = _literal_address(parts.host)
    try:
        addresses = [literal] if literal is not None else look_up(parts.host, parts.port, timeout_s, owner)
    except ForbiddenAddress as error:
        raise ForbiddenAddress(error.host, error.address, allow.setting) from None
    for address in addresses:
        if (is_private_name or not is_public(address)) and not allow.allows(parts.host, address):
            raise ForbiddenAddress(parts.host, None if is_private_name else str(address), allow.setting)
    # This check comes last. If private addresses are refused anyway, the error doesn't tell which of them are ours.
    if allow.denied is not None and allow.denied.include(parts.host, parts.port, addresses):
        raise ServerDenied(parts.host, parts.port)
    return Target(parts, tuple(addresses))


def _needs_no_look_up(host: str, allow: AllowList) -> bool:
    """Whether the name is refused without looking at its addresses."""
    return host.endswith(PRIVATE_DOMAINS) and not allow.networks and host not in allow.hosts


def _literal_address(host: str) -> Address | None:
    try:
        return unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def _unmapped_network(network: Network) -> Network:
    """Turn `::ffff:10.0.0.0/104` into 10.0.0.0/8: IPv4-mapped addresses are checked as IPv4 addresses."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return network if mapped is None else ipaddress.ip_network(f"{mapped}/{max(0, network.prefixlen - 96)}")
