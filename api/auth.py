"""Authentication of requests: the token that was sent, and the scope that each view needs.

A view says `@needs(Scope.READ)` or the like, or `@open_to_all`. One that says neither needs `admin`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from flask import Flask, current_app, g, request
from psycopg_pool import ConnectionPool

from api.errors import Problem
from api.live.access_watch import Access
from api.settings import ApiSettings
from storage.access.scopes import ALL, Scope, allows, show_scopes
from storage.access.token_format import digest_of, is_token
from storage.access.tokens import Token, any_token_was_made, find_token
from storage.postgres.database import Connection
from storage.predictions.parameters import MAX_PRIORITY
from storage.predictions.quota import Quota

# A revoked token is accepted for at most this long. A stream that it opens in that time is closed after at most
# another `access_watch.CHECK_EVERY_S`.
REMEMBER_S = 1.5
REMEMBER_AT_MOST = 10_000

# A WebSocket client may offer two subprotocols: SUBPROTOCOL, and TOKEN_SUBPROTOCOL followed by its token.
SUBPROTOCOL = "darkroom"
TOKEN_SUBPROTOCOL = f"{SUBPROTOCOL}.token."

OPEN = "darkroom_is_open_to_all"
NEEDS = "darkroom_needs_scope"

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Caller:
    """The sender of a request. `token_id` is None if the API needs no token."""

    token_id: int | None
    quota: Quota
    max_priority: int
    max_images: int  # of one prediction; 0: as many as the model draws
    access: Access
    scopes: frozenset[Scope]

    @property
    def is_operator(self) -> bool:
        """Whether the caller sees other callers' data on the routes for operators. True if the API needs no token."""
        return self.token_id is None or Scope.ADMIN in self.scopes

    def owns(self, row: dict[str, Any]) -> bool:
        """Whether the caller may see and cancel the prediction. Always true if the API needs no token."""
        return self.token_id is None or row["token_id"] == self.token_id


class Unauthorized(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(401, "Unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="darkroom"'})


class MissingScope(Problem):
    """The token is valid, but lacks the scope that the view needs."""

    def __init__(self, needed: Scope, held: frozenset[Scope]) -> None:
        super().__init__(
            403,
            "Missing scope",
            f"this needs the scope `{needed}`, and the token has {show_scopes(held)}: use another token, or let an"
            " operator change its scopes with `darkroom tokens set-scopes`",
            headers={"WWW-Authenticate": f'Bearer realm="darkroom", error="insufficient_scope", scope="{needed}"'},
            code="insufficient_scope",
            scope=needed,
        )


def needs(scope: Scope) -> Callable[[View], View]:
    """Mark a view that needs a token with this scope (or `admin`), unless the API needs no token at all."""

    def mark(view: View) -> View:
        setattr(view, NEEDS, scope)
        return view

    return mark


def open_to_all(view: View) -> View:
    """Mark a view that needs no token, because it shows nothing private or its URL is signed."""
    setattr(view, OPEN, True)
    return view


def caller() -> Caller:
    """The caller of the current request. Use only in views that require a token."""
    found: Caller = g.caller
    return found


def _in_header(authorization: str) -> str | None:
    scheme, _, text = authorization.strip().partition(" ")
    return text.strip() if scheme.lower() in ("bearer", "token") and text.strip() else None


def _sent_token() -> str | None:
    """The token of the Authorization header, or of the WebSocket's subprotocols: a browser's WebSocket sends no header.

    (Kubernetes' API takes tokens of browsers in the same way.)
    """
    text = _in_header(request.headers.get("Authorization", ""))
    if text is not None:
        return text
    if request.environ.get("HTTP_UPGRADE", "").lower() == "websocket":
        for offered in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
            if offered.strip().startswith(TOKEN_SUBPROTOCOL):
                return offered.strip().removeprefix(TOKEN_SUBPROTOCOL)
    return None


class Authentication:
    """Checks tokens, and caches the valid ones for REMEMBER_S."""

    def __init__(self, settings: ApiSettings, pool: ConnectionPool[Connection]) -> None:
        self._settings = settings
        self._pool = pool
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Caller]] = {}
        self._open_until = 0.0
        self._closed = settings.auth == "tokens"

    def register(self, app: Flask) -> None:
        """Check the token of every request to the app."""
        app.before_request(self._check)

    def is_open(self) -> bool:
        """Whether requests need no token: because of the setting, or because no token was ever created."""
        if self._settings.auth == "none":
            return True
        if self._closed:
            return False
        if time.monotonic() < self._open_until:
            return True
        with self._pool.connection() as conn:
            self._closed = any_token_was_made(conn)
        self._open_until = time.monotonic() + REMEMBER_S
        return not self._closed

    def may_upload(self, authorization: str) -> bool:
        """Whether a request with this Authorization header may have a large body: its token needs the scope `draw`.

        The server calls this before it reads the body. The request itself is still authenticated afterwards.
        """
        if self.is_open():
            return True
        text = _in_header(authorization)
        try:
            return text is not None and allows(self._caller_with(text).scopes, Scope.DRAW)
        except Unauthorized:
            return False

    def _check(self) -> None:
        view = current_app.view_functions.get(request.endpoint or "")
        if view is None or getattr(view, OPEN, False) or request.method == "OPTIONS":
            return
        if self.is_open():
            g.caller = self._everybody()
            return
        found, needed = self._caller(), getattr(view, NEEDS, Scope.ADMIN)
        if not allows(found.scopes, needed):
            raise MissingScope(needed, found.scopes)
        g.caller = replace(found, access=replace(found.access, scope=needed))

    def _everybody(self) -> Caller:
        quota = Quota(self._settings.rate_limit_per_minute, self._settings.max_queued)
        return Caller(None, quota, MAX_PRIORITY, self._settings.max_images, Access(None), ALL)

    def _caller_of(self, token: Token, text: str) -> Caller:
        settings = self._settings
        return Caller(
            token.id,
            Quota(
                settings.rate_limit_per_minute if token.rate_per_minute is None else token.rate_per_minute,
                settings.max_queued if token.max_queued is None else token.max_queued,
            ),
            token.max_priority,
            settings.max_images if token.max_images is None else token.max_images,
            Access(token.id, digest_of(text)),
            token.scopes,
        )

    def _caller(self) -> Caller:
        text = _sent_token()
        if text is None:
            raise Unauthorized("send a token: `Authorization: Bearer dr_…`; `darkroom tokens create` makes one")
        return self._caller_with(text)

    def _caller_with(self, text: str) -> Caller:
        if not is_token(text):
            raise Unauthorized("that is no token of Darkroom, or it is incomplete: compare it with what was made")
        now = time.monotonic()
        remembered = self._known.get(text)
        if remembered is not None and now < remembered[0]:
            return remembered[1]
        with self._pool.connection() as conn:
            found = find_token(conn, text)
        with self._lock:
            if found is None:
                self._known.pop(text, None)
                raise Unauthorized("this token was revoked or replaced, or belongs to another deployment")
            if len(self._known) >= REMEMBER_AT_MOST:
                self._known.clear()
            known = self._caller_of(found, text)
            self._known[text] = (now + REMEMBER_S, known)
        return known
