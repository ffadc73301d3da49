"""Which web pages may make a browser send requests to this API: its own, and those of CORS_ORIGINS.

A browser sends simple requests (forms, images, `fetch` with text/plain) to any address for any page, and marks them:
with `Origin`, and with `Sec-Fetch-Site` where the address is HTTPS or loopback. Programs send neither header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from api.browsers.origins import Origins, normalized
from api.browsers.own_hosts import OwnHosts
from api.errors import Problem

OTHER_SITES = ("cross-site", "same-site")  # same-site: another port or subdomain, so another program
FOR_ALL_PAGES = "darkroom_is_for_all_pages"

View = TypeVar("View", bound=Callable[..., Any])


def for_all_pages(view: View) -> View:
    """Mark a view that any web page may link to or embed: it shows nothing private, or its URL is signed."""
    setattr(view, FOR_ALL_PAGES, True)
    return view


class CrossSite:
    """Refuses requests that a web page sends without permission."""

    def __init__(self, own: OwnHosts, allowed: Origins, public_url: str, *, is_open: Callable[[], bool]) -> None:
        self._own = own
        self._allowed = allowed
        self._public_origin = normalized("{0.scheme}://{0.netloc}".format(urlsplit(public_url)))
        self._is_open = is_open

    def register(self, app: Flask) -> None:
        """Check every request of the app."""
        app.before_request(self._check)

    def _check(self) -> None:
        headers = request.environ
        host, origin = headers.get("HTTP_HOST", ""), headers.get("HTTP_ORIGIN")
        site = headers.get("HTTP_SEC_FETCH_SITE")
        if not self._own.include(host) and not _is_health_check() and self._is_open():
            raise _misdirected(host)
        if (origin is None and site not in OTHER_SITES) or request.method == "OPTIONS":
            return
        view = current_app.view_functions.get(request.endpoint or "")
        if view is None or getattr(view, FOR_ALL_PAGES, False):
            return
        if origin is None:
            if not self._allowed.are_all:
                raise _foreign(f"`Sec-Fetch-Site: {site}`", "https://its.origin")
        elif not (self._allowed.allow(origin) or self._is_own(origin, host, site)):
            raise _foreign(repr(origin[:100]), origin[:100])

    def _is_own(self, origin: str, host: str, site: str | None) -> bool:
        """Whether a page of that origin was served under PUBLIC_URL, or under the host that this request names."""
        known = normalized(origin)
        if known is None:
            return False
        # Behind a proxy the API doesn't know its own scheme, so it trusts the browser's Sec-Fetch-Site if it is sent.
        scheme = known.partition("://")[0]
        return known == self._public_origin or (site not in OTHER_SITES and known == normalized(f"{scheme}://{host}"))


def _is_health_check() -> bool:
    """Load balancers and kubelets send health checks to the address of a container."""
    return request.path in ("/healthz", "/readyz")


def _misdirected(host: str) -> Problem:
    return Problem(
        421,
        "Misdirected request",
        f"this API needs no token, so it answers only under its own names, and the request is for {host[:100]!r}: use "
        "PUBLIC_URL or 127.0.0.1, or add the host to ALLOWED_HOSTS",
    )


def _foreign(sender: str, example: str) -> Problem:
    return Problem(
        403,
        "Forbidden",
        f"a web page of another origin ({sender}) sent this request: CORS_ORIGINS={example} would allow it",
    )
