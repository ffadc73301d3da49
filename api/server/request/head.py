"""The head of a request: gunicorn's parser reads it, and each of its complaints becomes a clear answer."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from urllib.parse import urlsplit

from gunicorn.http import errors
from gunicorn.http.message import Request
from gunicorn.http.unreader import Unreader

from api.server.response.refusal import Refusal

# The details repeat nothing of the request: it may hold secrets, and some terminals obey control characters.
COMPLAINTS: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.InvalidHTTPVersion, 505, "this server speaks HTTP/1.1 and HTTP/1.0"),
    (errors.InvalidRequestMethod, 400, "the method is not a word in capital letters"),
    (errors.LimitRequestLine, 414, "the request line is too long: put long values into the body"),
    (errors.InvalidRequestLine, 400, "the first line is not `METHOD /path HTTP/1.1`, ended by CR and LF"),
    (errors.LimitRequestHeaders, 431, "the request has too many header fields (MAX_HEADER_FIELDS), or one is too long"),
    (errors.UnsupportedTransferCoding, 501, "the only Transfer-Encoding that this server reads is chunked"),
    (errors.ObsoleteFolding, 400, "a header field goes on in the next line, which HTTP no longer allows"),
    (errors.ExpectationFailed, 417, "the only expectation that this server meets is 100-continue"),
    (errors.InvalidHeaderName, 400, "the name of a header field has characters that HTTP does not allow there"),
    (
        errors.InvalidHeader,
        400,
        "a header field is malformed or stands there twice, or Content-Length and Transfer-Encoding are both there",
    ),
)
HEALTH_CHECK = "/healthz"
FALLBACK = (400, "the header of the request is malformed")


def parse_head(config: Any, head: bytes, client: Any) -> Request:
    """The request that begins with `head`, which ends with its empty line; its body is still to be read.

    Raises Refusal.
    """
    try:
        request = Request(config, _Given(head), client)
    except (errors.ParseException, errors.NoMoreData) as error:
        status, detail = next(((s, d) for kind, s, d in COMPLAINTS if isinstance(error, kind)), FALLBACK)
        raise Refusal(status, detail) from None
    hosts = [value for name, value in request.headers if name == "HOST"]
    if not hosts and request.version >= (1, 1):
        raise Refusal(400, "the header field Host is missing")
    if not request.uri.startswith(("/", "*")):
        _check_authority(request, hosts)
    return request


def owner_of(request: Request, client: Any) -> Hashable:
    """Whose turn the request takes while it waits for a thread: its token's, or its address's if it sends none.

    Health checks have a turn of their own: an API that is busy must not be taken for a dead one. `client`: the peer's
    address as the socket says it.
    """
    if request.path == HEALTH_CHECK:
        return HEALTH_CHECK
    for name, value in request.headers:
        if name == "AUTHORIZATION":
            return str(value)
    return str(client[0]) if isinstance(client, tuple) else ""


def _check_authority(request: Request, hosts: list[str]) -> None:
    """`GET http://name/path`: the name counts as the Host, so a different Host could mislead whoever checks that."""
    if request.method == "CONNECT":
        raise Refusal(501, "this server is not a proxy")
    if urlsplit(request.uri).netloc.lower() not in {host.lower() for host in hosts}:
        raise Refusal(400, "the URL of the first line names a host that differs from the header field Host")


class _Given(Unreader):  # type: ignore[misc] # gunicorn has no types
    """Bytes that have arrived; there are no others."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.buf.write(data)

    def chunk(self, size_hint: int | None = None) -> bytes:
        return b""
