"""Access tokens: made, found, listed, replaced and revoked."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from storage.access.token_format import digest_of, new_token, shown_of
from storage.errors import OperatorError
from storage.postgres.database import Connection, Row


@dataclass(frozen=True)
class Token:
    """What a request that carries the token may do."""

    id: int
    name: str
    rate_per_minute: int | None  # None: the setting; 0: no limit
    max_queued: int | None  # likewise
    max_priority: int


def create_token(
    conn: Connection,
    name: str,
    *,
    rate_per_minute: int | None = None,
    max_queued: int | None = None,
    max_priority: int = 0,
) -> str:
    """Returns the token, which can't be read again. Raises OperatorError where the name is taken."""
    token = new_token()
    try:
        conn.execute(
            """
            INSERT INTO tokens (name, digest, shown, rate_per_minute, max_queued, max_priority)
            VALUES (%s, %s, %s, %s, %s, %s)
            """,
            (name, digest_of(token), shown_of(token), rate_per_minute, max_queued, max_priority),
        )
    except psycopg.errors.UniqueViolation:
        raise OperatorError(
            f"There is a token {name!r} already: choose another name, or replace it with `darkroom tokens rotate`."
        ) from None
    return token


def find_token(conn: Connection, token: str) -> Token | None:
    """The token that this text is, unless it was revoked. Notes, to the minute, that it was used."""
    row = conn.execute(
        """
        SELECT id, name, rate_per_minute, max_queued, max_priority,
               last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute' AS is_note_old
        FROM tokens WHERE digest = %s AND revoked_at IS NULL
        """,
        (digest_of(token),),
    ).fetchone()
    if row is None:
        return None
    if row.pop("is_note_old"):
        conn.execute("UPDATE tokens SET last_used_at = clock_timestamp() WHERE id = %s", (row["id"],))
    return Token(**row)


def list_tokens(conn: Connection) -> list[Row]:
    """All of them, the revoked ones too, oldest first; without their digests."""
    return conn.execute(
        """
        SELECT name, shown, rate_per_minute, max_queued, max_priority, created_at, last_used_at, revoked_at
        FROM tokens ORDER BY id
        """
    ).fetchall()


def revoke_token(conn: Connection, name: str) -> None:
    """Let it in no more. Raises OperatorError where there is none; revoking twice is fine."""
    changed = conn.execute(
        "UPDATE tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE name = %s", (name,)
    ).rowcount
    if not changed:
        raise _no_such_token(name)


def rotate_token(conn: Connection, name: str) -> str:
    """Give it a new secret, which is returned; the old one is refused from now on.

    Its predictions stay its own. Raises OperatorError where there is none, or where it was revoked.
    """
    token = new_token()
    changed = conn.execute(
        "UPDATE tokens SET digest = %s, shown = %s, last_used_at = NULL WHERE name = %s AND revoked_at IS NULL",
        (digest_of(token), shown_of(token), name),
    ).rowcount
    if not changed:
        raise _no_such_token(name)
    return token


def any_token_was_made(conn: Connection) -> bool:
    """Also one that is revoked by now: revoking the last one must not open the doors."""
    return conn.execute("SELECT 1 FROM tokens LIMIT 1").fetchone() is not None


def _no_such_token(name: str) -> OperatorError:
    return OperatorError(f"There is no token {name!r} that is in use: `darkroom tokens list` shows what there is.")
