"""The names and addresses under which this API answers while it needs no token.

A web page can make its own name point to 127.0.0.1 (DNS rebinding). The browser then lets it read the answers of
the server that listens there, but it still sends the page's name in `Host`. An IP address in `Host` can't be
redirected in this way.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from storage.errors import OperatorError

MAX_CHARS = 300

_FORM = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+?)\.?)(?::[0-9]{0,5})?", re.ASCII)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OwnHosts:
    """Loopback, the address that the API listens on, the host of PUBLIC_URL, and ALLOWED_HOSTS; with any port.

    Ports are not compared: DNS rebinding depends on the name alone. If the API listens on all addresses, it accepts any
    IP address.
    """

    def __init__(self, *, bound_to: str, public_url: str, allowed_hosts: str) -> None:
        self._names = {"localhost"}
        self._addresses: set[Address] = set()
        listens_on = _address(bound_to)
        self._is_any_address_own = listens_on is not None and listens_on.is_unspecified
        for host in (bound_to, urlsplit(public_url).hostname or "", *_parse(allowed_hosts)):
            if (address := _address(host)) is not None:
                self._addresses.add(address)
            else:
                self._names.add(host.lower().removesuffix("."))
        self._is_own = lru_cache(maxsize=1024)(self._look_at)

    def include(self, host: str) -> bool:
        """Whether a Host header names this API."""
        return len(host) <= MAX_CHARS and self._is_own(host)

    def _look_at(self, host: str) -> bool:
        match = _FORM.fullmatch(host.lower())
        if match is None:
            return False
        address = _address(match["address"] or match["name"])
        if address is None:
            return match["address"] is None and match["name"] in self._names
        return self._is_any_address_own or address.is_loopback or address in self._addresses


def _parse(allowed_hosts: str) -> list[str]:
    hosts = [host for host in (host.strip() for host in allowed_hosts.split(",")) if host]
    for host in hosts:
        if _address(host) is None and not re.fullmatch(r"[A-Za-z0-9._-]+", host, re.ASCII):
            raise OperatorError(
                f"ALLOWED_HOSTS: {host!r} is not a host: write names or addresses without scheme, port and path, such"
                " as darkroom.lan or 10.0.0.7; patterns are not supported."
            )
    return hosts


def _address(host: str) -> Address | None:
    """The address that this host is, or None if it is a name."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
