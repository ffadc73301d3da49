"""Download a file from a URL that a client chose: from allowed addresses only, with a size limit and a deadline."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Hashable
from typing import IO
from urllib.parse import urljoin

from storage.outbound.check_url import AllowList, Target, check_url
from storage.outbound.parse_url import InvalidURL, parse_url
from storage.outbound.safe_http import NoAnswer, build_request, exchange

MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
READ_BYTES = 256 * 1024
# Bytes that may be read besides the file: a chunked answer has the size of each chunk.
MAX_FRAMING_BYTES = 1024 * 1024


class DownloadFailed(Exception):
    """The server answered, but didn't send the file. The message says what it sent instead."""


class WriteFailed(Exception):
    """The file could not be written on this machine."""


def download(
    url: str,
    into: IO[bytes],
    *,
    allow: AllowList,
    max_bytes: int,
    timeout_s: float,
    accept: str = "*/*",
    ssl_context: ssl.SSLContext | None = None,
    interrupted: threading.Event | None = None,
    owner: Hashable = None,
) -> int:
    """Write the file into `into`. Returns its size in bytes.

    `timeout_s` is the limit for everything together: look-ups, redirects and the transfer. The URL must be https. It
    may be http if `allow` names its host or address, because servers in a private network often have no certificate.
    At most MAX_REDIRECTS redirects are followed. Each is checked like the first URL, and the requests have no Referer
    header. Raises InvalidURL, ForbiddenAddress, Unresolvable, NoAnswer, DownloadFailed, Interrupted, and WriteFailed
    if `into` can't be written.
    """
    deadline = time.monotonic() + timeout_s
    for _ in range(1 + MAX_REDIRECTS):
        target = _check(url, allow, deadline, owner)
        request = build_request("GET", target, {"Accept": accept, "User-Agent": "Darkroom"})
        with exchange(
            target,
            request,
            deadline=deadline,
            timeout_s=timeout_s,
            max_response_bytes=max_bytes + MAX_FRAMING_BYTES,
            ssl_context=ssl_context,
            interrupted=interrupted,
        ) as (_, response):
            location = response.getheader("Location")
            if response.status in REDIRECTS and location is not None:
                url = urljoin(url, location.strip())
                continue
            if response.status != 200:
                raise DownloadFailed(f"the server answered {response.status}")
            if (encoding := response.getheader("Content-Encoding", "identity").lower()) != "identity":
                raise DownloadFailed(f"the server compressed the file ({encoding[:20]!r}), although it must not")
            if response.length is not None and response.length > max_bytes:
                raise DownloadFailed(f"the file has {response.length} bytes; at most {max_bytes} are allowed")
            size_bytes = 0
            while chunk := _read(response):
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise DownloadFailed(f"the file has more than {max_bytes} bytes")
                _write(into, chunk)
            if response.length:  # http.client raises no error if the connection ends early
                raise DownloadFailed(f"the connection ended early: {response.length} bytes of the file are missing")
            return size_bytes
    raise DownloadFailed(f"there are more than {MAX_REDIRECTS} redirects")


def _check(url: str, allow: AllowList, deadline: float, owner: Hashable) -> Target:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise NoAnswer("no answer in time")
    is_plain = parse_url(url).scheme == "http"
    if is_plain and not allow.networks and not allow.hosts:
        raise InvalidURL("the URL must start with https://")
    target = check_url(url, allow, timeout_s=left_s, owner=owner)
    if is_plain and not all(allow.allows(target.url.host, address) for address in target.addresses):
        reason = f" ({allow.setting} doesn't contain {target.url.host})" if allow.setting else ""
        raise InvalidURL(f"the URL must start with https://{reason}")
    return target


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(READ_BYTES)
    except ValueError:  # a chunk of size -5
        raise DownloadFailed("the server's answer is not HTTP") from None


def _write(into: IO[bytes], chunk: bytes) -> None:
    try:
        into.write(chunk)
    except OSError as error:
        raise WriteFailed(str(error)) from error
