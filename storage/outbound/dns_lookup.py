"""Looks up host names with a time limit. Defines the errors for hosts that can't be used."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Hashable

from storage.outbound.fair_share import FairShare
from storage.outbound.public_addresses import Address, unmapped

# If a name server doesn't answer, the thread waits until the resolver gives up (glibc: 5 s × 2 tries × name servers).
# So the number of threads is limited, and owners share them: the host names of one owner can't use all threads.
MAX_LOOKUPS_AT_ONCE = 64
_lookups = FairShare(MAX_LOOKUPS_AT_ONCE)
_lookup_ended = threading.Condition()
# Errors of getaddrinfo that don't go away if you try again. The others (EAI_AGAIN, EAI_FAIL) mean that the name server
# has a problem. Some systems don't define all of these names.
NO_SUCH_HOST = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}


class ForbiddenAddress(ValueError):
    """The host has an address that is not public, or its name is for private networks only (`address` is None).

    The message names the setting that would allow the host (WEBHOOK_ALLOW), if there is one. It never contains the
    address of a host name: clients must not be able to query the internal DNS through these messages.
    """

    def __init__(self, host: str, address: str | None, setting: str = "WEBHOOK_ALLOW") -> None:
        self.host = host
        self.address = address
        allow = host
        if address is None:
            what = f"{host} is a host name for private networks only"
        elif host == address:
            what = f"{host} is an address that is not public"
        elif ":" in host:
            what, allow = f"{host} is the IPv4 address {address}, which is not public", address
        else:
            what = f"{host} resolves to an address that is not public"
        advice = f"; {setting}={allow} would allow it (a comma-separated list of networks and exact host names)"
        super().__init__(what + (advice if setting else ""))


class NotPublic(ForbiddenAddress):
    """The host name doesn't exist, or has an address that is not public. The message doesn't say which."""

    def __init__(self, host: str, setting: str = "WEBHOOK_ALLOW") -> None:
        advice = (
            f"; if the host is in your own network, {setting}={host} would allow it (a comma-separated list of "
            "networks and exact host names)"
        )
        what = f"{host} doesn't exist, or resolves to an address that is not public"
        ValueError.__init__(self, what + (advice if setting else ""))
        self.host = host
        self.address = None


class Unresolvable(OSError):
    """The host name has no address now, or the name server didn't answer in time."""


class NoSuchHost(Unresolvable):
    """The name server answered that the host name has no address."""


def look_up(host: str, port: int, timeout_s: float, owner: Hashable = None) -> list[Address]:
    """Return every address of a host name, in the system's order of preference.

    `owner` shares the look-up threads with other owners. Raises Unresolvable (its subclass NoSuchHost included), and
    ForbiddenAddress for a link-local address with a zone.
    """
    deadline = time.monotonic() + timeout_s
    with _lookup_ended:
        if not _lookup_ended.wait_for(lambda: _lookups.has_room_for(owner), max(0.0, timeout_s)):
            raise Unresolvable(f"{host}: too many look-ups are waiting for the name server")
        _lookups.take(owner)
    answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def run_getaddrinfo() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            answer.put([str(info[4][0]) for info in found])
        except (OSError, UnicodeError) as error:
            answer.put(error)
        finally:
            with _lookup_ended:
                _lookups.give_back(owner)
                _lookup_ended.notify_all()

    # In a thread, because getaddrinfo has no timeout. A daemon thread, so that a blocked look-up doesn't keep the
    # process alive.
    threading.Thread(target=run_getaddrinfo, name=f"lookup-{host}", daemon=True).start()
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
