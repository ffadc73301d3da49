"""Free TCP ports of the loopback interface."""

from __future__ import annotations

import secrets
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

LOWEST = 20_000
# From here on, the system gives ports to outgoing connections (Linux's default; the real one is read).
EPHEMERAL = 32_768
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different.

    They lie below those that the system gives to outgoing connections, since one of these might take a port before
    it is used. No other process that asks here gets them as long as this one lives. Another server still may take one:
    then the start fails, and can be tried again with others.
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
                port = each.getsockname()[1]
                _reserve(port)
                ports.append(port)
        return ports


def _reserve(port: int) -> None:
    """Hold it against other processes that call `free_ports`, until this process ends. Raises OSError if one does.

    The name of an abstract socket can be had once, and is free again when its process ends, however that ends. Only
    Linux has them.
    """
    if sys.platform == "linux":
        with socket.socket(socket.AF_UNIX) as name:
            name.bind(f"\0darkroom-port-{port}")
            name.detach()


def _first_ephemeral() -> int:
    with suppress(OSError, ValueError):
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    return EPHEMERAL
