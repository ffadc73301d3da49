"""Judges a URL: may a webhook be sent there, or a picture or LoRA fetched from there?

Such a URL is written by a stranger and called from inside the operator's network. So a URL is taken apart
by one strict grammar, its host is resolved once, and it is refused if *any* of its addresses is not public,
unless the operator's WEBHOOK_ALLOW (for pictures, INPUT_IMAGE_ALLOW) names the host or a network. Connect only
to the addresses in the `Target`, never to the name again: a second look-up could give another answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from dataclasses import dataclass

from storage.outbound.dns_lookup import ForbiddenAddress, NoSuchHost, NotPublic, look_up
from storage.outbound.own_servers import OwnServers
from storage.outbound.parse_url import URLParts, is_host_name, parse_url
from storage.outbound.public_addresses import Address, Network, is_public, unmapped

# Names that mean something inside a network alone. Where WEBHOOK_ALLOW has neither the name nor any network, they are
# refused unasked: nobody learns which of them exist. Else each of their addresses must be in those networks.
PRIVATE_DOMAINS = (".localhost", ".local", ".internal")


class OwnServerRefused(ForbiddenAddress):
    """The URL leads to this service's own Postgres, S3 server or API, which no setting allows."""

    def __init__(self, host: str, port: int) -> None:
        ValueError.__init__(
            self, f"port {port} of {host} belongs to this service itself; requests are never sent to its own servers"
        )
        self.host = host
        self.address = None


@dataclass(frozen=True)
class AllowList:
    """What a setting such as WEBHOOK_ALLOW permits beyond public addresses, and what nothing permits."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    never: OwnServers | None = None
    setting: str = "WEBHOOK_ALLOW"  # whose value it is; refusals name it. Empty: no setting allows more

    @classmethod
    def parse(cls, text: str, setting: str = "WEBHOOK_ALLOW") -> AllowList:
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
                        f"{setting}: {item!r} is not a network (10.0.0.0/8), an address or a host name"
                    ) from None
                hosts.add(host)
        return cls(tuple(networks), frozenset(hosts), setting=setting)

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


def check_url(url: str, allow: AllowList, *, timeout_s: float = 5.0, asked_by: Hashable = None) -> Target:
    """Judge a URL while its request is answered. Raises as `resolve` does, and NotPublic.

    A name that doesn't exist is refused with the same words as one that has a private address. Otherwise, whoever may
    submit could ask which names exist in this network. A name in WEBHOOK_ALLOW may come into being later.
    """
    try:
        return resolve(url, allow, timeout_s=timeout_s, asked_by=asked_by)
    except OwnServerRefused:
        raise
    except (ForbiddenAddress, NoSuchHost):
        host = parse_url(url).host
        if _literal_address(host) is not None or _is_refused_unasked(host, allow) or host in allow.hosts:
            raise
        raise NotPublic(host, allow.setting) from None


def resolve(url: str, allow: AllowList, *, timeout_s: float = 5.0, asked_by: Hashable = None) -> Target:
    """Take a URL apart, look its host up once, and judge every address.

    `asked_by` names whose URL it is (a token): look-ups that hang keep only their own asker's next ones waiting.
    Raises InvalidURL, ForbiddenAddress (OwnServerRefused is one), or Unresolvable (also when the look-up takes longer
    than timeout_s).
    """
    parts = parse_url(url)
    is_private_name = parts.host.endswith(PRIVATE_DOMAINS)
    if _is_refused_unasked(parts.host, allow):
        raise ForbiddenAddress(parts.host, None, allow.setting)
    literal = _literal_address(parts.host)
    try:
        addresses = [literal] if literal is not None else look_up(parts.host, parts.port, timeout_s, asked_by)
    except ForbiddenAddress as error:
        raise ForbiddenAddress(error.host, error.address, allow.setting) from None
    for address in addresses:
        if (is_private_name or not is_public(address)) and not allow.allows(parts.host, address):
            raise ForbiddenAddress(parts.host, None if is_private_name else str(address), allow.setting)
    # Last: where private addresses are refused anyway, the answer doesn't tell which of them are our own.
    if allow.never is not None and allow.never.include(parts.host, parts.port, addresses):
        raise OwnServerRefused(parts.host, parts.port)
    return Target(parts, tuple(addresses))


def _is_refused_unasked(host: str, allow: AllowList) -> bool:
    return host.endswith(PRIVATE_DOMAINS) and not allow.networks and host not in allow.hosts


def _literal_address(host: str) -> Address | None:
    try:
        return unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def _unmapped_network(network: Network) -> Network:
    """`::ffff:10.0.0.0/104` is 10.0.0.0/8: addresses are judged by the IPv4 address that they stand for."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return network if mapped is None else ipaddress.ip_network(f"{mapped}/{max(0, network.prefixlen - 96)}")
