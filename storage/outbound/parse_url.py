"""The one URL grammar for webhooks, pictures and LoRAs.

It is stricter than the URL standard on purpose: a URL that two parsers could read differently is refused.
"""

import ipaddress
import re
from dataclasses import dataclass

MAX_URL_CHARS = 2048


class InvalidURL(ValueError):
    """The text is not a URL that Darkroom accepts. The message says which part is wrong."""


@dataclass(frozen=True)
class URLParts:
    """The parts of a URL."""

    scheme: str
    host: str  # lower case, no trailing dot; an IPv6 address without brackets
    port: int
    request_target: str  # path and query, as they go into the request line

    @property
    def host_header(self) -> str:
        """The Host header. It has the port only if that isn't the scheme's default port."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"


def parse_url(url: str) -> URLParts:
    """Parse an http or https URL: ASCII only, and no user name. Raises InvalidURL."""
    if len(url) > MAX_URL_CHARS:
        raise InvalidURL(f"the URL has {len(url)} characters; at most {MAX_URL_CHARS} are allowed")
    if not url.isascii() or any(character <= " " or character in '\\"<>\x7f' for character in url):
        raise InvalidURL(
            "the URL contains a character that must be percent-encoded (write a host name in its xn-- form)"
        )
    if not url.lower().startswith(("http://", "https://")):
        raise InvalidURL("the URL must start with https:// or http://")
    if "@" in re.split(r"[/?#]", url.split("://", 1)[1], maxsplit=1)[0]:
        raise InvalidURL("the URL must not contain a user name or password")
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidURL("the URL must look like https://host[:port]/path (no zone id in an IPv6 address)")
    scheme = match["scheme"].lower()
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    if port > 65535:
        raise InvalidURL(f"port {port} doesn't exist; the highest port is 65535")
    if port in _PORTS_OF_OTHER_PROTOCOLS or port in _PORTS_OF_INTERNAL_SERVERS:
        raise InvalidURL(f"port {port} is blocked, because it is the usual port of another protocol than HTTP")
    return URLParts(
        scheme=scheme,
        host=_ipv6_host(match["ipv6"]) if match["ipv6"] else _name_or_ipv4(match["host"]),
        port=port,
        request_target=(match["path"] or "/") + (match["query"] or ""),
    )


def is_host_name(host: str) -> bool:
    """Whether a lower-case text is a DNS name, and not an IPv4 address in any notation."""
    labels = host.split(".")
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not _ends_in_number(host)


def _ipv6_host(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise InvalidURL(f"[{text}] is not an IPv6 address") from None


def _name_or_ipv4(text: str) -> str:
    host = text.lower().removesuffix(".")
    if _ends_in_number(host):
        # inet_aton, and so getaddrinfo, reads 2130706433, 0x7f.1, 0177.0.0.1 and 127.1 as 127.0.0.1.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise InvalidURL(f"{text} is not an IPv4 address; write four decimal numbers") from None
    if not is_host_name(host):
        raise InvalidURL(f"{text[:80]!r} is not a host name")
    return host


def _ends_in_number(host: str) -> bool:
    return _NUMBER.fullmatch(host.rsplit(".", 1)[-1]) is not None


_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::(?P<port>[0-9]{0,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:\#.*)?",
    re.IGNORECASE | re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# Servers of these protocols may understand parts of an HTTP request as commands. These are the "bad ports" of the Fetch
# standard (https://fetch.spec.whatwg.org/#port-blocking). Browsers refuse them too.
_PORTS_OF_OTHER_PROTOCOLS = frozenset((
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
))  # fmt: skip

# Databases, queues, caches and remote administration. Webhooks don't go to them. Some of them (Redis, memcached) run
# a line of an HTTP request if it is a valid command. docs/webhooks.md lists these ports.
_PORTS_OF_INTERNAL_SERVERS = frozenset((
    445,  # SMB
    1433, 1521, 3306, 5432, 6432,  # SQL Server, Oracle, MySQL, Postgres, PgBouncer
    9042, 27017, 27018, 27019,  # Cassandra, MongoDB
    2375, 2376, 2379, 2380, 10250,  # Docker, etcd, kubelet
    3389, 5900, 5985, 5986,  # remote desktops and shells
    2181, 4369, 5672, 9092,  # ZooKeeper, Erlang, AMQP, Kafka
    6379, 9200, 9300, 11211, 26379,  # Redis, Elasticsearch, memcached, Redis Sentinel
))  # fmt: skip
