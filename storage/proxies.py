"""Which servers are asked through the proxy that HTTP_PROXY names: never those of this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_on_this_machine(url: str) -> bool:
    """Whether the URL's host is a loopback name or address. No name is looked up."""
    try:
        host = (urlsplit(url).hostname or "").removesuffix(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        address = ipaddress.ip_address(host)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return False


def s3_proxies(endpoint_url: str | None) -> dict[str, str] | None:
    """What botocore's `Config(proxies=…)` takes: `{}` is no proxy, None is what the environment says.

    botocore asks loopback addresses through HTTP_PROXY too, unless NO_PROXY names them.
    """
    return {} if endpoint_url is not None and is_on_this_machine(endpoint_url) else None
