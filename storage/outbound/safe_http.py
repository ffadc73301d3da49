"""Sends one HTTP request to a URL that a client chose: to allowed addresses only, and with a deadline.

It follows no redirects (a redirect is returned like any other answer), ignores proxies in the environment, keeps no
cookies and reuses no connections. `post` delivers webhooks and returns only the status and the headers.
`storage.outbound.download` downloads files.
"""

import contextlib
import functools
import http
import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

from storage import crash_points
from storage.outbound.check_url import AllowList, Target, resolve
from storage.outbound.deadline_socket import DeadlineSocket, Interrupted

# Limit for the status line and the headers together. max_response_bytes is the limit for the body.
MAX_HEAD_BYTES = 32_000

# Limit for interim answers (1xx) before the final one. Their bytes count towards MAX_HEAD_BYTES.
MAX_INTERIM = 20

# Once the headers have arrived, the body is read for at most this time (and never beyond the deadline).
BODY_TIMEOUT_S = 2.0


class NoAnswer(OSError):
    """There was no HTTP answer; the message says why. The receiver may or may not have received the request."""


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names in lower case


def post(
    url: str | Target,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow: AllowList,
    timeout_s: float = 15.0,
    max_response_bytes: int = 20_000,
    ssl_context: ssl.SSLContext | None = None,
    interrupted: threading.Event | None = None,
    owner: Hashable = None,
    connected_to: Callable[[Target], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Response:
    """POST `body`. `timeout_s` is the limit for look-up, connect, TLS, request and answer together.

    `owner` shares the look-up threads with other owners (`storage.outbound.dns_lookup`). The context manager
    `connected_to(target)` is entered before the connect and left after the close. Its exceptions are passed on.

    Certificates are checked against ssl_context, or against the system's certificate authorities (SSL_CERT_FILE can
    change them). Raises InvalidURL, ForbiddenAddress or Unresolvable before anything is sent, NoAnswer if status line
    and headers didn't arrive in time, and Interrupted soon after `interrupted` is set.
    """
    deadline = time.monotonic() + timeout_s
    target = resolve(url, allow, timeout_s=timeout_s, owner=owner) if isinstance(url, str) else url
    with (
        connected_to(target),
        exchange(
            target,
            build_request("POST", target, headers, body),
            deadline=deadline,
            timeout_s=timeout_s,
            max_response_bytes=max_response_bytes,
            ssl_context=ssl_context,
            interrupted=interrupted,
        ) as (connection, response),
    ):
        _drain(connection, response, max_response_bytes)
        return Response(response.status, {name.lower(): value for name, value in response.getheaders()})


@contextlib.contextmanager
def exchange(
    target: Target,
    request: bytes,
    *,
    deadline: float,
    timeout_s: float,
    max_response_bytes: int,
    ssl_context: ssl.SSLContext | None = None,
    interrupted: threading.Event | None = None,
) -> Iterator[tuple[DeadlineSocket, http.client.HTTPResponse]]:
    """Connect, send the request, and read the status and headers. The connection is closed at the end of the block.

    `deadline` is a time.monotonic() value. It also applies to the block. `timeout_s` is only for the message of
    NoAnswer. Raises NoAnswer and Interrupted like `post`, also for errors while the block reads the body.
    """
    connection = DeadlineSocket(deadline, max_read_bytes=MAX_HEAD_BYTES + max_response_bytes, interrupted=interrupted)
    try:
        with contextlib.closing(connection):
            _connect(connection, target, deadline)
            if target.url.scheme == "https":
                connection.start_tls(ssl_context or _system_ssl_context(), target.url.host)
            # A receiver may answer and close before it has read the whole request (413). Then read its answer.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send_all(request)
            method = request.partition(b" ")[0].decode()
            if method == "POST":
                crash_points.reach("during-post")
            with _read_head(connection, method) as response:
                yield connection, response
    except (Interrupted, NoAnswer):
        raise
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(f"TLS: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise NoAnswer(f"TLS: {error.reason or error}") from error
    except http.client.HTTPException as error:
        raise NoAnswer(f"not an HTTP answer ({type(error).__name__})") from error
    except OSError as error:
        raise NoAnswer((error.strerror or str(error)).lower()) from error


def _connect(connection: DeadlineSocket, target: Target, deadline: float) -> None:
    """Connect to the first address that answers. Each address gets an equal share of the remaining time."""
    for left in range(len(target.addresses), 0, -1):
        now = time.monotonic()
        until = now + (deadline - now) / left
        try:
            return connection.connect(target.addresses[-left], target.url.port, until=until)
        except OSError:
            if left == 1:
                raise
    raise AssertionError("a target has at least one address")


def build_request(method: str, target: Target, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """Return the bytes of the request. Raises ValueError for a header with a line break."""
    lines = [f"{method} {target.url.request_target} HTTP/1.1", f"Host: {target.url.host_header}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [] if body is None else [f"Content-Length: {len(body)}"]
    lines += ["Accept-Encoding: identity", "Connection: close"]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header contains a line break")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _drain(connection: DeadlineSocket, response: http.client.HTTPResponse, max_response_bytes: int) -> None:
    """Read the body and drop it, so that the receiver can finish sending. Errors in the body are ignored."""
    connection.end_by(time.monotonic() + BODY_TIMEOUT_S)
    # ValueError: a chunk of size -5.
    with contextlib.suppress(OSError, http.client.HTTPException, Interrupted, ValueError):
        response.read(max_response_bytes)


def _read_head(connection: DeadlineSocket, method: str) -> http.client.HTTPResponse:
    """Return the first final answer. At most MAX_INTERIM interim answers (100, 102, 103, …) may come before it.

    101 is final: the server switches to a protocol that was not requested. http.client skips 100 without counting;
    only the byte limit stops it.
    """
    shared = _SharedReader(connection)
    for _ in range(1 + MAX_INTERIM):
        response = http.client.HTTPResponse(cast("socket.socket", shared), method=method)
        response.begin()
        if not 100 <= response.status < 200 or response.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            return response
    raise NoAnswer(f"more than {MAX_INTERIM} interim answers")


class _KeptOpen(io.BufferedReader):
    """Ignores close(): an HTTPResponse closes its reader, but the next one needs it. `exchange` closes the socket."""

    def close(self) -> None:
        pass


class _SharedReader:
    """Gives the same buffer to several HTTPResponse objects, one after the other."""

    def __init__(self, connection: DeadlineSocket) -> None:
        self._reader = _KeptOpen(connection)

    def makefile(self, _: str) -> io.BufferedReader:
        return self._reader


@functools.cache
def _system_ssl_context() -> ssl.SSLContext:
    """Cached for the process: reading the system's certificate authorities takes about 10 ms."""
    return ssl.create_default_context()
