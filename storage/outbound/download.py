"""GET a file from a URL that a stranger wrote: from judged addresses only, up to a size, within one deadline."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Hashable
from typing import IO
from urllib.parse import urljoin

from storage.outbound.judge_url import AllowList, Target, check_url
from storage.outbound.parse_url import InvalidURL, parse_url
from storage.outbound.safe_http import NoAnswer, exchange, request_of

MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
READ_BYTES = 256 * 1024
# What is read beside the file itself: the sizes of chunks.
MAX_FRAMING_BYTES = 1024 * 1024


class NotDownloaded(Exception):
    """The server answered, and not with the file; the message says what came instead."""


class NoRoom(Exception):
    """What came could not be written here."""


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
    asked_by: Hashable = None,
) -> int:
    """Write the file into `into`; returns its size in bytes. Look-ups, redirects and bytes together take `timeout_s`.

    The URL has to be https, or http where `allow` names its host or address: servers inside a network often have no
    certificate. At most MAX_REDIRECTS redirects are followed, and each is judged like the first URL; no header of the
    request says where it comes from. Raises InvalidURL, ForbiddenAddress, Unresolvable, NoAnswer, NotDownloaded,
    Interrupted, and NoRoom where `into` can't be written.
    """
    deadline = time.monotonic() + timeout_s
    for _ in range(1 + MAX_REDIRECTS):
        target = _judged(url, allow, deadline, asked_by)
        request = request_of("GET", target, {"Accept": accept, "User-Agent": "Darkroom"})
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
                raise NotDownloaded(f"the server answered {response.status}")
            if (encoding := response.getheader("Content-Encoding", "identity").lower()) != "identity":
                raise NotDownloaded(f"the server compressed the file ({encoding[:20]!r}), which was not asked for")
            if response.length is not None and response.length > max_bytes:
                raise NotDownloaded(f"the file has {response.length} bytes, and at most {max_bytes} are taken")
            size_bytes = 0
            while chunk := _read(response):
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise NotDownloaded(f"the file has more than {max_bytes} bytes")
                _write(into, chunk)
            if response.length:  # http.client says nothing where a connection ends early
                raise NotDownloaded(f"the connection ended {response.length} bytes before the file did")
            return size_bytes
    raise NotDownloaded(f"there are more than {MAX_REDIRECTS} redirects")


def _judged(url: str, allow: AllowList, deadline: float, asked_by: Hashable) -> Target:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise NoAnswer("no answer in time")
    is_plain = parse_url(url).scheme == "http"
    if is_plain and not allow.networks and not allow.hosts:
        raise InvalidURL("the URL must start with https://")
    target = check_url(url, allow, timeout_s=left_s, asked_by=asked_by)
    if is_plain and not all(allow.allows(target.url.host, address) for address in target.addresses):
        reason = f" ({allow.setting} has not {target.url.host})" if allow.setting else ""
        raise InvalidURL(f"the URL must start with https://{reason}")
    return target


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(READ_BYTES)
    except ValueError:  # a chunk of size -5
        raise NotDownloaded("the server's answer is not HTTP") from None


def _write(into: IO[bytes], chunk: bytes) -> None:
    try:
        into.write(chunk)
    except OSError as error:
        raise NoRoom(str(error)) from error
