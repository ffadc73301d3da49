"""Who is counted as one client, and who isn't counted."""

from __future__ import annotations

import pytest

from api.server.addresses import ConnectionsByAddress, parse_networks


def test_one_address_has_so_many_connections_and_others_have_their_own() -> None:
    counted = ConnectionsByAddress(2, ())
    assert counted.take(("192.0.2.1", 1)) == counted.take(("192.0.2.1", 2)) == "192.0.2.1"
    assert counted.take(("192.0.2.1", 3)) is None
    assert counted.take(("192.0.2.2", 3)) == "192.0.2.2"
    counted.give_back("192.0.2.1")
    assert counted.take(("192.0.2.1", 4)) == "192.0.2.1"


def test_an_ipv6_network_counts_as_one_and_a_mapped_address_as_what_it_is() -> None:
    counted = ConnectionsByAddress(2, ())
    assert counted.take(("2001:db8::1", 1, 0, 0)) == counted.take(("2001:db8::ffff:2", 1, 0, 0)) == "2001:db8::/64"
    assert counted.take(("2001:db8::3", 1, 0, 0)) is None
    assert counted.take(("2001:db8:0:1::3", 1, 0, 0)) is not None
    assert counted.take(("::ffff:192.0.2.1", 1, 0, 0)) == "192.0.2.1"
    assert counted.take(("fe80::1%eth0", 1, 0, 2)) == "fe80::/64"


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("127.3.2.1", 1), ("::1", 1, 0, 0), ("10.1.2.3", 1), ""])
def test_proxies_and_unix_sockets_are_not_counted(client: object) -> None:
    counted = ConnectionsByAddress(1, parse_networks("127.0.0.0/8, ::1,10.0.0.0/8"))
    assert [counted.take(client) for _ in range(5)] == [""] * 5


def test_zero_means_any_number() -> None:
    counted = ConnectionsByAddress(0, ())
    assert [counted.take(("192.0.2.1", number)) for number in range(5)] == [""] * 5
