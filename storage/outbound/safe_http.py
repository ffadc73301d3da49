"""One request to a URL that a stranger wrote: to a judged address only, once, within a wall-clock deadline.

No redirect is followed (the answer to one is an answer like any other), no proxy of the environment is used,
no cookie is kept, no connection is reused. `post` delivers webhooks: only the status and the headers of the answer
count. `storage.outbound.download` gets files.
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
from storage.outbound.deadline_socket import DeadlineSocket, Interrupted
from storage.outbound.judge_url import AllowList, Target, resolve

# Room for the status line and the headers beside the body's max_response_bytes.
MAX_HEAD_BYTES = 32_000

# Interim answers (1xx) before the final one. Their bytes count as MAX_HEAD_BYTES too.
MAX_INTERIM = 20

# How long the rest of an answer is read for once its status is known, within the deadline.
BODY_TIMEOUT_S = 2.0


class NoAnswer(OSError):
    """No HTTP answer came; the message says why. Whether the receiver got the request is not known."""


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
    asked_by: Hashable = None,
    connected_to: Callable[[Target], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Response:
    """POST `body`; look-up, connect, TLS, request and answer together take at most timeout_s.

    `asked_by` says with whom the look-up shares (`storage.outbound.dns_lookup`). `connected_to(target)` is entered
    before the connection is made, and left after it is closed; what it raises is raised here.

    Certificates are checked against the system's authorities (SSL_CERT_FILE is obeyed), or ssl_context's.
    Raises InvalidURL, ForbiddenAddress or Unresolvable before anything is sent, NoAnswer when no status line
    and headers came in time, Interrupted soon after `interrupted` is set.
    """
    deadline = time.monotonic() + timeout_s
    target = resolve(url, allow, timeout_s=timeout_s, asked_by=asked_by) if isinstance(url, str) else url
    with (
        connected_to(target),
        exchange(
            target,
            request_of("POST", target, headers, body),
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
    """Connect, send the request, and read the head of the answer; closed at the end of the block.

    `deadline` is a time.monotonic() value that holds for the block too. It comes from `timeout_s`, which the message of
    NoAnswer names. Raises as `post` does once the target is known, also for what goes wrong while the block reads the
    body.
    """
    connection = DeadlineSocket(deadline, max_read_bytes=MAX_HEAD_BYTES + max_response_bytes, interrupted=interrupted)
    try:
        with contextlib.closing(connection):
            _connect(connection, target, deadline)
            if target.url.scheme == "https":
                connection.start_tls(ssl_context or _system_trust(), target.url.host)
            # A receiver may answer, and close, before it has read everything (413): the answer counts.
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
    """Connect to the first address that answers; each gets an equal share of the time that is left."""
    for left in range(len(target.addresses), 0, -1):
        now = time.monotonic()
        until = now + (deadline - now) / left
        try:
            return connection.connect(target.addresses[-left], target.url.port, until=until)
        except OSError:
            if left == 1:
                raise
    raise AssertionError("a target has at least one address")


def request_of(method: str, target: Target, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """The request as it goes over the wire. Raises ValueError for a header with a line break."""
    lines = [f"{method} {target.url.request_target} HTTP/1.1", f"Host: {target.url.host_header}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [] if body is None else [f"Content-Length: {len(body)}"]
    lines += ["Accept-Encoding: identity", "Connection: close"]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header holds a line break")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _drain(connection: DeadlineSocket, response: http.client.HTTPResponse, max_response_bytes: int) -> None:
    """Read the body and drop it, so that the receiver can finish sending. A broken body changes nothing."""
    connection.end_by(time.monotonic() + BODY_TIMEOUT_S)
    # ValueError: a chunk of size -5.
    with contextlib.suppress(OSError, http.client.HTTPException, Interrupted, ValueError):
        response.read(max_response_bytes)


def _read_head(connection: DeadlineSocket, method: str) -> http.client.HTTPResponse:
    """The first final answer. 100, 102, 103 and other interim ones may come before it, MAX_INTERIM of them.

    101 is final: it agrees to a protocol that was not asked for. http.client skips 100 by itself, as long as the
    bytes last.
    """
    shared = _SharedReader(connection)
    for _ in range(1 + MAX_INTERIM):
        response = http.client.HTTPResponse(cast("socket.socket", shared), method=method)
        response.begin()
        if not 100 <= response.status < 200 or response.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            return response
    raise NoAnswer(f"more than {MAX_INTERIM} interim answers")


class _KeptOpen(io.BufferedReader):
    """An HTTPResponse closes what it has read from; the next one reads on. The socket is closed by `exchange`."""

    def close(self) -> None:
        pass


class _SharedReader:
    """Lets one HTTPResponse after the other read from the same buffer."""

    def __init__(self, connection: DeadlineSocket) -> None:
        self._reader = _KeptOpen(connection)

    def makefile(self, _: str) -> io.BufferedReader:
        return self._reader


@functools.cache
def _system_trust() -> ssl.SSLContext:
    """One for the process: reading the system's authorities takes some 10 ms each time."""
    return ssl.create_default_context()
