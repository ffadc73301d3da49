"""Free TCP ports of the loopback interface."""

from __future__ import annotations

import secrets
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

LOWEST = 20_000
# From here on, the system gives ports to outgoing connections (Linux's default; the real one is read).
EPHEMERAL = 32_768
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different.

    They lie below those that the system gives to outgoing connections, since one of these might take a port before
    it is used. Another server still may: then the start fails, and can be tried again with others.
    """
    with ExitStack() as held:
        ports: list[int] = []
        candidates = list(range(LOWEST, _first_ephemeral()))
        secrets.SystemRandom().shuffle(candidates)
        for candidate in [*candidates, *[0] * count]:  # 0: any
            if len(ports) == count:
                break
            with suppress(OSError):
                each = held.enter_context(socket.socket())
                each.bind(("127.0.0.1", candidate))
                ports.append(each.getsockname()[1])
        return ports


def _first_ephemeral() -> int:
    with suppress(OSError, ValueError):
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    return EPHEMERAL
