"""Which addresses belong to the public internet."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_public(address: Address) -> bool:
    """Whether an address is a unicast address of the public internet.

    Stricter than `ipaddress.is_global`, which is true for multicast, ::/96, 64:ff9b::/96, fec0::/10, 5f00::/16
    and, before Python 3.13, for 2002::/16 and 3fff::/20. An IPv6 address must be in 2000::/3, the only range that is
    assigned to the public internet. An IPv4-mapped IPv6 address is checked as its IPv4 address.
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


# From the IANA special-purpose registries of 2025-05. Listed here, so that the result doesn't depend on the Python
# version.
_IPV4_NOT_PUBLIC = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; also cloud metadata (100.100.100.200)
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # looks public, but on Azure it is the host of the virtual machine
        "169.254.0.0/16",  # link-local; cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; also cloud metadata (192.0.0.192)
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112: anycast to the nearest DNS sink
        "192.52.193.0/24",  # automatic multicast tunnels: anycast to the nearest relay
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
