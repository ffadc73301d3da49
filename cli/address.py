"""Where the API of `darkroom up` may listen."""

from __future__ import annotations

import errno
import ipaddress
import socket

from cli.embedded.ports import free_ports
from storage.errors import OperatorError


def require_loopback(host: str) -> None:
    """Refuse to be reached from outside: there are no API tokens yet, so whoever reaches us may use us."""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise OperatorError(
            f"--host {host} would let everybody on the network use this service, since it has no access tokens yet:"
            " use 127.0.0.1, and a proxy with a login in front of it for others."
        )


def choose_port(host: str, port: int) -> int:
    """`port` if it can be listened on, or any free one for 0. Raises OperatorError."""
    if port == 0:
        return free_ports(1)[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = "is taken by another program: stop that one, or choose another with --port"
            elif error.errno == errno.EACCES:
                reason = "is for root only: choose one from 1024 up with --port"
            else:
                reason = f"can't be used ({error.strerror}): choose another with --port"
            raise OperatorError(f"Port {port} of {host} {reason}.") from None
    return port


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
