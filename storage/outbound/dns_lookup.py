"""Looks host names up with a time limit, and errors of a host that can't be used."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Hashable

from storage.outbound.fair_share import FairShare
from storage.outbound.public_addresses import Address, unmapped

# A resolver that hangs keeps its thread until it gives up by itself (glibc: 5 s × 2 tries × name servers), so
# the threads that may hang at once are counted, and those who ask share them: nobody's names take all of them.
MAX_LOOKUPS_AT_ONCE = 64
_lookups = FairShare(MAX_LOOKUPS_AT_ONCE)
_lookup_ended = threading.Condition()
# getaddrinfo's answers that will be the same in a moment. The others (EAI_AGAIN, EAI_FAIL) tell of a name server that
# is out of order. Not every system has all of them.
NO_SUCH_HOST = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}


class ForbiddenAddress(ValueError):
    """The host has an address that is not public, or a name that has none anywhere (`address` is None).

    The message names the value of the setting (WEBHOOK_ALLOW) that would let it through, if there is one. It doesn't
    tell the address of a name: someone who may submit predictions must not be able to ask the internal DNS.
    """

    def __init__(self, host: str, address: str | None, setting: str = "WEBHOOK_ALLOW") -> None:
        self.host = host
        self.address = address
        allow = host
        if address is None:
            what = f"{host} is a name of private networks"
        elif host == address:
            what = f"{host} is an address that is not public"
        elif ":" in host:
            what, allow = f"{host} stands for {address}, an address that is not public", address
        else:
            what = f"{host} resolves to an address that is not public"
        advice = f"; {setting}={allow} would allow it (a comma-separated list of networks and exact host names)"
        super().__init__(what + (advice if setting else ""))


class NotPublic(ForbiddenAddress):
    """The host name doesn't exist, or has an address that is not public: the message doesn't tell which."""

    def __init__(self, host: str, setting: str = "WEBHOOK_ALLOW") -> None:
        advice = (
            f"; for a host of your own network, {setting}={host} would allow it (a comma-separated list of networks "
            "and exact host names)"
        )
        what = f"{host} doesn't exist, or resolves to an address that is not public"
        ValueError.__init__(self, what + (advice if setting else ""))
        self.host = host
        self.address = None


class Unresolvable(OSError):
    """The host name has no address at the moment, or the name server didn't answer in time."""


class NoSuchHost(Unresolvable):
    """The name server answered that the host name has no address."""


def look_up(host: str, port: int, timeout_s: float, asked_by: Hashable = None) -> list[Address]:
    """Every address of a host name, in the system's order of preference. Raises Unresolvable (NoSuchHost is one)."""
    deadline = time.monotonic() + timeout_s
    with _lookup_ended:
        if not _lookup_ended.wait_for(lambda: _lookups.has_room_for(asked_by), max(0.0, timeout_s)):
            raise Unresolvable(f"{host}: too many look-ups are already waiting for the name server")
        _lookups.take(asked_by)
    answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            answer.put([str(info[4][0]) for info in found])
        except (OSError, UnicodeError) as error:
            answer.put(error)
        finally:
            with _lookup_ended:
                _lookups.give_back(asked_by)
                _lookup_ended.notify_all()

    # getaddrinfo can't be told how long to take. A daemon: a hung look-up must not keep a process alive.
    threading.Thread(target=ask, name=f"lookup-{host}", daemon=True).start()
    try:
        found = answer.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise Unresolvable(f"{host}: the name server didn't answer within {timeout_s:g} s") from None
    if isinstance(found, Exception):
        is_final = isinstance(found, UnicodeError) or (
            isinstance(found, socket.gaierror) and found.errno in NO_SUCH_HOST
        )
        raise (NoSuchHost if is_final else Unresolvable)(f"{host}: {found}") from found
    addresses = []
    for text in dict.fromkeys(found):
        if "%" in text:  # a link-local address with its zone
            raise ForbiddenAddress(host, text)
        addresses.append(unmapped(ipaddress.ip_address(text)))
    if not addresses:
        raise NoSuchHost(f"{host}: no address")
    return addresses
