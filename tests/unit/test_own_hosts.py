"""Under which `Host` the API answers while it needs no token: never under a name that a stranger can choose."""

from __future__ import annotations

import pytest

from api.browsers.own_hosts import OwnHosts
from storage.errors import OperatorError

LOOPBACK = ["localhost", "LocalHost:8000", "localhost.:8000", "127.0.0.1", "127.0.0.1:9000", "127.9.9.9", "[::1]:8000"]
# Names that point to 127.0.0.1, or may be made to, and what looks like an own name at first sight.
NAMES = [
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example:8000",
    "evil.localhost:8000",
    "127.0.0.1.nip.io",
    "2130706433",
    "0x7f.1",
    "localhost@evil.example",
    "localhost evil.example",
    "localhost,evil.example",
    "localhost:8000:80",
    "[::1",
    "[localhost]",
    "::1",
    "",
    "localhost" * 1000,
]


def own(bound_to: str = "127.0.0.1", public_url: str = "http://127.0.0.1:8000", allowed_hosts: str = "") -> OwnHosts:
    return OwnHosts(bound_to=bound_to, public_url=public_url, allowed_hosts=allowed_hosts)


@pytest.mark.parametrize("bound_to", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "10.0.0.7"])  # noqa: S104
def test_loopback_is_always_own_and_a_strangers_name_never_is(bound_to: str) -> None:
    hosts = own(bound_to)
    assert [host for host in LOOPBACK if not hosts.include(host)] == []
    assert [host for host in NAMES if hosts.include(host)] == []


def test_the_bound_address_is_own_and_other_addresses_are_not() -> None:
    hosts = own("10.0.0.7")
    assert hosts.include("10.0.0.7:8000")
    assert not hosts.include("10.0.0.8:8000")
    assert own("fd00::7").include("[FD00:0::7]:8000")
    assert own("box.lan").include("Box.Lan:8000")


@pytest.mark.parametrize("bound_to", ["0.0.0.0", "::"])  # noqa: S104 (nothing is bound here)
def test_where_all_addresses_are_listened_on_each_is_own(bound_to: str) -> None:
    """An address in Host can't have been made to point here, so it needs no list."""
    hosts = own(bound_to)
    assert hosts.include("192.168.1.5:8000")
    assert hosts.include("[fd00::7]")
    assert not hosts.include("darkroom-api:8000")


def test_the_public_urls_host_and_the_allowed_ones_are_own() -> None:
    hosts = own(public_url="https://Draw.example.com/base", allowed_hosts="darkroom-api, Box.lan ,10.1.2.3, [fd00::9]")
    for host in ("draw.example.com", "draw.example.com:443", "darkroom-api:8000", "box.lan", "10.1.2.3", "[fd00::9]:1"):
        assert hosts.include(host)
    assert not hosts.include("example.com")
    assert not hosts.include("x.draw.example.com")


@pytest.mark.parametrize("wrong", ["*", "*.example.com", "http://box.lan", "box.lan:8000", "box.lan/x", "a b"])
def test_what_is_no_host_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(OperatorError, match="ALLOWED_HOSTS"):
        own(allowed_hosts=f"fine.lan, {wrong}")
