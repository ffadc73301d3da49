"""Ends streams and waiting requests that have lost access: their token was revoked, replaced or lost the scope that
they need, or the API began to require tokens.

Such a request is authenticated once and may last for hours. One thread checks all of them at once in Postgres, so that
a stream needs no query of its own, and a revocation takes effect however it was written to the database.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import structlog
from psycopg_pool import ConnectionPool, PoolTimeout

from storage.access.scopes import Scope, allows
from storage.access.tokens import TokenInUse, any_token_was_made, read_in_use
from storage.postgres.database import Connection

log = structlog.get_logger(__name__)

# Together with `auth.REMEMBER_S`, the time for which a token is cached, this is below the 3 s of docs/access.md.
CHECK_EVERY_S = 1.0


@dataclass(frozen=True)
class Access:
    """What gave a request access. The request may last as long as that is valid."""

    token_id: int | None  # None: the API needs no token
    digest: str | None = None  # of the token that was sent; None: a signed URL of one of the token's predictions
    scope: Scope | None = None  # that the request needed; None: a signed URL

    def lasts(self, in_use: dict[int, TokenInUse], *, is_open: bool) -> bool:
        """Whether the access is still valid. `in_use`: the tokens that are not revoked."""
        if self.token_id is None:
            return is_open
        token = in_use.get(self.token_id)
        if token is None or self.digest not in (None, token.digest):
            return False
        return self.scope is None or allows(token.scopes, self.scope)


class AccessWatch:
    """Knows the accesses of all requests of this process that last, and how to end each."""

    def __init__(self, pool: ConnectionPool[Connection], *, is_always_open: bool) -> None:
        self._pool = pool
        self._is_always_open = is_always_open
        self._lock = threading.Lock()
        self._ends: dict[Access, list[Callable[[], None]]] = defaultdict(list)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @contextmanager
    def watching(self, access: Access, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` within about CHECK_EVERY_S when the access has ended. It is called on another thread."""
        if self._is_always_open:
            yield
            return
        with self._lock:
            self._ends[access].append(end)
        try:
            yield
        finally:
            with self._lock:
                self._ends[access].remove(end)
                if not self._ends[access]:
                    del self._ends[access]

    def _run(self) -> None:
        while not self._stopping.wait(CHECK_EVERY_S):
            try:
                self._check()
            except (psycopg.Error, PoolTimeout) as error:  # no token can be revoked while Postgres is down
                log.warning("access_watch.postgres_away", reason=str(error).strip().partition("\n")[0])

    def _check(self) -> None:
        with self._lock:
            accesses = list(self._ends)
        if not accesses:
            return
        ids = sorted({access.token_id for access in accesses if access.token_id is not None})
        with self._pool.connection(timeout=5) as conn:
            in_use = read_in_use(conn, ids) if ids else {}
            is_open = Access(None) not in accesses or not any_token_was_made(conn)
        for access in accesses:
            if not access.lasts(in_use, is_open=is_open):
                with self._lock:
                    ends = list(self._ends.get(access, ()))
                log.info("access_watch.ended", token_id=access.token_id, requests=len(ends))
                for end in ends:
                    end()
