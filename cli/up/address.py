"""Where the API of `darkroom up` may listen."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import TYPE_CHECKING

from cli.embedded.ports import free_ports
from storage.errors import OperatorError

if TYPE_CHECKING:
    from api.settings import ApiSettings


NOT_OPEN = "Access: with a token"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_public_url(host: str, public_url: str | None) -> None:
    """Refuse an address for others without the URL by which they reach us: every link that we give out begins so."""
    if not is_loopback(host) and not public_url:
        raise OperatorError(
            f"--host {host} is for others, so say by which URL they reach this service:"
            " PUBLIC_URL=https://draw.example.com (or http://this-machine:8000)."
        )


def require_tokens(host: str, settings: ApiSettings) -> None:
    """Refuse to be reached from outside by everybody: it takes tokens, or a plain word that there shall be none.

    Raises OperatorError. The schema has to be there.
    """
    if is_loopback(host) or settings.auth != "auto":
        return
    from storage.access.tokens import any_token_was_made
    from storage.postgres.database import connect

    with connect(settings.direct_url, application_name="darkroom tokens") as conn:
        if any_token_was_made(conn):
            return
    raise OperatorError(
        f"--host {host} would let everybody on the network use this service, since it has no access tokens yet:"
        " make one with `darkroom tokens create NAME` (for `darkroom up`: start it on 127.0.0.1 first), or set"
        " AUTH=none if a proxy in front of it asks who comes."
    )


def describe_access(host: str, settings: ApiSettings) -> str:
    """One line for the operator: who is let in."""
    from storage.access.tokens import any_token_was_made
    from storage.postgres.database import connect

    if settings.auth == "none":
        return "Access: everybody who reaches it, without a token (AUTH=none)"
    with connect(settings.direct_url, application_name="darkroom tokens") as conn:
        if settings.auth == "tokens" or any_token_was_made(conn):
            return f"{NOT_OPEN} (`darkroom tokens list`)"
    return f"Access: everybody on this machine, without a token ({host}); `darkroom tokens create NAME` ends that"


def reachable(host: str) -> str:
    """The address by which this machine reaches what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (nothing is bound here)


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
    return f"http://{host_and_port(host, port)}"


def host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
