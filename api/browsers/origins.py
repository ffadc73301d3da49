"""Web origins: `scheme://host` or `scheme://host:port`, as the Origin header names the page that sends a request."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from storage.errors import OperatorError

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_CHARS = 300  # longer than any host name with its scheme and port

_FORM = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?/?", re.ASCII
)


@dataclass(frozen=True)
class Origins:
    """The origins that CORS_ORIGINS names."""

    named: frozenset[str]
    are_all: bool  # `*`

    @classmethod
    def parse(cls, text: str) -> Origins:
        """Parse a comma-separated list. Raises OperatorError for an entry that no browser would send."""
        entries = [entry for entry in (entry.strip() for entry in text.split(",")) if entry]
        try:
            named = frozenset(parse_origin(entry) for entry in entries if entry != "*")
        except ValueError as error:
            raise OperatorError(f"CORS_ORIGINS: {error}.") from None
        return cls(named, are_all="*" in entries)

    def __bool__(self) -> bool:
        return self.are_all or bool(self.named)

    def allow(self, origin: str) -> bool:
        """Whether pages of the origin in an Origin header may call the API."""
        return self.are_all or normalized(origin) in self.named


def parse_origin(text: str) -> str:
    """The origin as browsers write it: in lower case, without its scheme's default port.

    Raises ValueError, which says why the text is not an origin that a browser could send.
    """
    said = repr(text[:MAX_CHARS])
    if text.lower() == "null":
        raise ValueError(f"{said} is the origin of every sandboxed page and local file, so it can't be allowed alone")
    if "*" in text:
        raise ValueError(f"{said} is a pattern, and patterns are not supported: name each origin, or `*` alone for all")
    if "://" not in text:
        raise ValueError(f"{said} has no scheme: write it as https://app.example.com")
    if not text.isascii():
        raise ValueError(f"{said} has letters that browsers send encoded: write the host as xn--…")
    match = _FORM.fullmatch(text.lower())
    if match is None:
        raise ValueError(f"{said} is not an origin: write scheme://host or scheme://host:port, without a path")
    scheme, host, port = match["scheme"], match["host"], match["port"]
    try:
        host = _canonical(host)
    except ValueError:
        raise ValueError(f"{said} has an address that browsers write differently: use 127.0.0.1 or [::1]") from None
    if port is None or int(port) == DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"{said} has the port {port}, and ports go from 1 to 65535")
    return f"{scheme}://{host}:{int(port)}"


def normalized(origin: str) -> str | None:
    """The origin of an Origin header, to be compared; None if it is `null` or not an origin."""
    return _normalized(origin) if len(origin) <= MAX_CHARS else None


@lru_cache(maxsize=1024)
def _normalized(origin: str) -> str | None:
    try:
        return parse_origin(origin)
    except ValueError:
        return None


def _canonical(host: str) -> str:
    """The host as browsers write it. Raises ValueError for an address that they would rewrite, such as 127.1."""
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    if host.rpartition(".")[2].isdigit():
        return str(ipaddress.IPv4Address(host))
    return host
