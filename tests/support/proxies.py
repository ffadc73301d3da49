"""A proxy as an environment names it."""

from __future__ import annotations

SCHEMES = ("http_proxy", "https_proxy", "all_proxy")


def proxy_settings(url: str) -> dict[str, str]:
    """Every variable that a client may read, in both cases, and none that exempts loopback."""
    names = [*SCHEMES, *map(str.upper, SCHEMES)]
    return dict.fromkeys(names, url) | {"no_proxy": "", "NO_PROXY": ""}
