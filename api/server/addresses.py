"""Counting the connections of each address, so that one client can't take all of them."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

# What one customer of an IPv6 provider has at least.
IPV6_PREFIX = 64

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Comma-separated addresses and networks. Raises ValueError."""
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


class ConnectionsByAddress:
    """At most `limit` connections of one address, or of one IPv6 network of 64 bits; 0: any number.

    `exempt`: addresses behind which there are many clients, such as a proxy's.
    """

    def __init__(self, limit: int, exempt: tuple[Network, ...]) -> None:
        self._limit = limit
        self._exempt = exempt
        self._open: Counter[str] = Counter()
        self._counted_as = lru_cache(maxsize=4096)(self._name)

    def take(self, client: object) -> str | None:
        """Count one more connection, and return the name to give back (empty if it isn't counted).

        None: it is one too many.
        """
        name = self._counted_as(client[0]) if isinstance(client, tuple) and self._limit else ""
        if name:
            if self._open[name] >= self._limit:
                return None
            self._open[name] += 1
        return name

    def give_back(self, name: str) -> None:
        if name:
            self._open[name] -= 1
            if self._open[name] <= 0:
                del self._open[name]

    def _name(self, host: str) -> str:
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._exempt):
            return ""
        if isinstance(address, IPv6Address):
            return str(ip_network((address, IPV6_PREFIX), strict=False))
        return str(address)
