"""Webhooks never reach this service's own servers, by whatever name or address, and others stay reachable."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from storage.outbound import denied_servers
from storage.outbound.check_url import ServerDenied, check_url
from storage.outbound.dns_lookup import ForbiddenAddress
from storage.settings import Settings
from storage.webhooks.allowed_targets import AllowedTargets

EVERYTHING = "0.0.0.0/0,::/0,localhost,s3,postgres,hook.internal"


def settings(**more: str) -> Settings:
    values: dict[str, Any] = {
        "database_url": "postgresql://me:secret@127.0.0.1:15432/db",
        "database_direct_url": "postgresql://me@/db?host=10.0.0.7,10.0.0.8&port=15433,15434",
        "s3_endpoint_url": "http://127.0.0.1:18333",
        "public_url": "https://draw.example.com/darkroom",
        "webhook_allow": EVERYTHING,
        "webhook_deny": "127.0.0.1:18000, [::1]:18001, 10.9.9.9, secret.example.com:8443",
    }
    return Settings.model_validate(values | more)


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Answer for the names that a test gives, as the name server would."""
    monkeypatch.setattr(denied_servers, "_known", {})

    def answer(names: dict[str, str]) -> None:
        def getaddrinfo(host: str, *_: object, **__: object) -> list[Any]:
            if host not in names:
                raise socket.gaierror("no such name")
            family = socket.AF_INET6 if ":" in names[host] else socket.AF_INET
            return [(family, socket.SOCK_STREAM, 6, "", (names[host], 0))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return answer


def check(url: str, **more: str) -> None:
    check_url(url, AllowedTargets.of(settings(**more)).always)


HOSTS_OF_THIS_MACHINE = [
    "127.0.0.1",
    "127.0.0.2",
    "0.0.0.0",  # noqa: S104 (nothing is bound)
    "localhost",
    "LOCALHOST.",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
]


@pytest.mark.parametrize("host", HOSTS_OF_THIS_MACHINE)
@pytest.mark.parametrize("port", [15432, 18333, 18000, 18001])
def test_a_server_on_this_machine_is_refused_by_every_address_of_it(host: str, port: int) -> None:
    with pytest.raises(ServerDenied, match=f"port {port} .*its own servers"):
        check(f"http://{host}:{port}/col/delete?collection=darkroom")
    check(f"http://{host}:{port + 1000}/hook")  # another program of this machine, which is allowed here


def test_the_addresses_and_the_name_of_this_host_are_this_machine(resolving: Callable[[dict[str, str]], None]) -> None:
    found = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == socket.AF_INET and not each.address.startswith("127.")
    ]
    if not found:
        pytest.skip("this machine has no address but loopback")
    resolving({"this-host": found[0]})
    for host in (found[0], "this-host"):
        with pytest.raises(ServerDenied):
            check(f"http://{host}:18333/", webhook_allow=f"{EVERYTHING},this-host")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7:15433/",
        "http://10.0.0.8:15434/",
        "http://[::ffff:10.0.0.7]:15433/",
        "http://10.9.9.9:1234/",
        "http://10.9.9.9/",
        "https://secret.example.com:8443/",
        "https://draw.example.com/v1/predictions/x/cancel",
        "https://DRAW.example.com.:443/",
        "http://made-up.internal:15433/",
        "http://bucket.s3.example.com:9000/",
        "http://s3.example.com:9000/",
    ],
)
def test_what_is_ours_is_refused(url: str, resolving: Callable[[dict[str, str]], None]) -> None:
    resolving(
        {
            "secret.example.com": "93.184.216.34",
            "draw.example.com": "93.184.216.35",
            "made-up.internal": "10.0.0.7",
            "s3.example.com": "93.184.216.36",
            "bucket.s3.example.com": "93.184.216.37",
        }
    )
    with pytest.raises(ServerDenied):
        check(url, s3_public_endpoint_url="http://s3.example.com:9000")


@pytest.mark.parametrize(
    "url",
    [
        "https://draw.example.com:8443/hook",  # another server of the same machine
        "https://other.example.com/hook",  # another site behind the same proxy or cloud
        "http://10.0.0.7:15434/hook",
        "http://10.0.0.9:15433/hook",
        "http://10.9.9.8/hook",
        "https://not-s3.example.com:9000/hook",
    ],
)
def test_what_is_not_ours_is_let_through(url: str, resolving: Callable[[dict[str, str]], None]) -> None:
    public = "93.184.216.35"
    names = ("draw.example.com", "other.example.com", "not-s3.example.com", "s3.example.com")
    resolving(dict.fromkeys(names, public))
    check(url, s3_public_endpoint_url="http://s3.example.com:9000")


def test_a_private_server_is_known_by_address_under_any_name(resolving: Callable[[dict[str, str]], None]) -> None:
    resolving({"s3": "10.1.2.3", "hook.internal": "10.1.2.3"})
    with pytest.raises(ServerDenied):
        check("http://hook.internal:8333/", s3_endpoint_url="http://s3:8333")
    resolving({"hook.internal": "10.1.2.3"})  # the name server forgets; what it said last holds
    with pytest.raises(ServerDenied):
        check("http://hook.internal:8333/", s3_endpoint_url="http://s3:8333")


def test_where_private_addresses_are_refused_anyway_nothing_tells_which_are_ours() -> None:
    told = []
    for port in (18333, 18334):
        with pytest.raises(ForbiddenAddress) as refused:
            check(f"http://127.0.0.1:{port}/", webhook_allow="")
        assert not isinstance(refused.value, ServerDenied)
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_a_postgres_on_a_socket_takes_no_port_from_others() -> None:
    check("http://127.0.0.1:15432/", database_url="postgresql://me@/db?host=%2Frun%2Fpostgres&port=15432")


@pytest.mark.parametrize("item", ["10.0.0.1:0", "10.0.0.1:99999", "a b:80", "http://x", "*.internal", "x:y"])
def test_a_deny_list_that_cannot_be_read_names_the_item(item: str) -> None:
    with pytest.raises(ValueError, match="WEBHOOK_DENY") as error:
        AllowedTargets.of(settings(webhook_deny=f"127.0.0.1:1,{item}"))
    assert repr(item) in str(error.value)


def test_what_is_allowed_while_open_is_refused_after_that() -> None:
    targets = AllowedTargets.of(settings(webhook_allow="10.0.0.0/8", webhook_allow_while_open="127.0.0.0/8"))
    assert targets.depend_on_tokens
    check_url("http://127.0.0.1:9999/", targets.now(is_open=True))
    check_url("http://10.0.0.1:9999/", targets.now(is_open=False))
    with pytest.raises(ForbiddenAddress):
        check_url("http://127.0.0.1:9999/", targets.now(is_open=False))
    with pytest.raises(ServerDenied):
        check_url("http://127.0.0.1:18333/", targets.now(is_open=True))
