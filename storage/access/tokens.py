"""Access tokens: create, find, list, rotate and revoke them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from storage.access.scopes import DEFAULT, Scope
from storage.access.sealing import IN_THE_CLEAR, Sealer
from storage.access.signing_keys import rotate_webhook_secret_of_token
from storage.access.token_format import digest_of, new_token, shown_of
from storage.errors import OperatorError
from storage.postgres.database import Connection, Row


@dataclass(frozen=True)
class Token:
    """A token with its limits and scopes."""

    id: int
    name: str
    # Limits: None means the value of the setting, 0 means no limit.
    rate_per_minute: int | None
    max_queued: int | None
    max_images: int | None  # for one prediction
    max_priority: int
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class TokenInUse:
    """The current digest and scopes of a token that is not revoked."""

    digest: str
    scopes: frozenset[Scope]


def create_token(
    conn: Connection,
    name: str,
    *,
    rate_per_minute: int | None = None,
    max_queued: int | None = None,
    max_images: int | None = None,
    max_priority: int = 0,
    scopes: Collection[Scope] = DEFAULT,
    sealer: Sealer = IN_THE_CLEAR,
) -> str:
    """Create and return a token. It can't be read again. Raises OperatorError if the name is taken.

    Also creates the token's webhook secret, encrypted by `sealer`.
    """
    token = new_token()
    try:
        with conn.transaction():
            row = conn.execute(
                """
                INSERT INTO tokens (
                    name, digest, shown, rate_per_minute, max_queued, max_images, max_priority, scopes,
                    shared_secret_until
                ) VALUES (
                    %(name)s, %(digest)s, %(shown)s, %(rate_per_minute)s, %(max_queued)s, %(max_images)s,
                    %(max_priority)s, %(scopes)s, '-infinity'
                ) RETURNING id
                """,
                {
                    "name": name,
                    "digest": digest_of(token),
                    "shown": shown_of(token),
                    "rate_per_minute": rate_per_minute,
                    "max_queued": max_queued,
                    "max_images": max_images,
                    "max_priority": max_priority,
                    "scopes": [str(scope) for scope in scopes],
                },
            ).fetchone()
            assert row is not None
            rotate_webhook_secret_of_token(conn, sealer, row["id"], overlap=timedelta(0))
    except psycopg.errors.UniqueViolation:
        raise OperatorError(
            f"There is already a token {name!r}: choose another name, or replace it with `darkroom tokens rotate`."
        ) from None
    return token


def find_token(conn: Connection, token: str) -> Token | None:
    """Return the token with this text, or None if there is none or it was revoked.

    Updates `last_used_at`, at most once a minute.
    """
    row = conn.execute(
        """
        SELECT id, name, rate_per_minute, max_queued, max_images, max_priority, scopes,
               last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute' AS is_note_old
        FROM tokens WHERE digest = %s AND revoked_at IS NULL
        """,
        (digest_of(token),),
    ).fetchone()
    if row is None:
        return None
    if row.pop("is_note_old"):
        conn.execute("UPDATE tokens SET last_used_at = clock_timestamp() WHERE id = %s", (row["id"],))
    return Token(**row | {"scopes": _scopes(row["scopes"])})


def read_in_use(conn: Connection, token_ids: list[int]) -> dict[int, TokenInUse]:
    """Return the tokens with these ids that are not revoked, by id."""
    rows = conn.execute("SELECT id, digest, scopes FROM tokens WHERE id = ANY(%s) AND revoked_at IS NULL", (token_ids,))
    return {row["id"]: TokenInUse(row["digest"], _scopes(row["scopes"])) for row in rows}


def list_tokens(conn: Connection) -> list[Row]:
    """Return all tokens, including revoked ones, oldest first, without their digests."""
    return conn.execute(
        """
        SELECT name, shown, rate_per_minute, max_queued, max_images, max_priority, scopes,
               created_at, last_used_at, revoked_at,
               shared_secret_until > clock_timestamp() AS signs_with_shared_secret,
               EXISTS (SELECT FROM webhook_secrets WHERE token_id = tokens.id) AS has_own_secret
        FROM tokens ORDER BY id
        """
    ).fetchall()


def revoke_token(conn: Connection, name: str) -> int:
    """Revoke a token. Returns its id. Raises OperatorError if there is no such token; revoking twice is fine.

    Its predictions continue. `storage.access.revoke` can cancel them.
    """
    row = conn.execute(
        "UPDATE tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE name = %s RETURNING id", (name,)
    ).fetchone()
    if row is None:
        raise _no_such_token(name)
    token_id: int = row["id"]
    return token_id


def count_unfinished(conn: Connection, token_id: int) -> Row:
    """Count the token's predictions that are `waiting` and `drawing`."""
    row = conn.execute(
        """
        SELECT count(*) FILTER (WHERE status = 'starting') AS waiting,
               count(*) FILTER (WHERE status = 'processing') AS drawing
        FROM predictions WHERE token_id = %s AND status IN ('starting', 'processing')
        """,
        (token_id,),
    ).fetchone()
    assert row is not None
    return row


def rotate_token(conn: Connection, name: str) -> str:
    """Replace the token's text and return the new one. The old one is refused from now on.

    The token keeps its predictions. Raises OperatorError if there is no such token, or if it was revoked.
    """
    token = new_token()
    changed = conn.execute(
        "UPDATE tokens SET digest = %s, shown = %s, last_used_at = NULL WHERE name = %s AND revoked_at IS NULL",
        (digest_of(token), shown_of(token), name),
    ).rowcount
    if not changed:
        raise _no_such_token(name)
    return token


def set_scopes(conn: Connection, name: str, scopes: Collection[Scope]) -> frozenset[Scope]:
    """Replace the scopes of a token, and return the old ones.

    Raises OperatorError if there is no such token, or if it was revoked.
    """
    row = conn.execute(
        """
        UPDATE tokens SET scopes = %(scopes)s
        FROM (SELECT id, scopes FROM tokens WHERE name = %(name)s FOR UPDATE) AS old
        WHERE tokens.id = old.id AND revoked_at IS NULL RETURNING old.scopes
        """,
        {"name": name, "scopes": [str(scope) for scope in scopes]},
    ).fetchone()
    if row is None:
        raise _no_such_token(name)
    return _scopes(row["scopes"])


def id_of_token(conn: Connection, name: str) -> int:
    """Raises OperatorError if there is no such token, or if it was revoked."""
    row = conn.execute("SELECT id FROM tokens WHERE name = %s AND revoked_at IS NULL", (name,)).fetchone()
    if row is None:
        raise _no_such_token(name)
    token_id: int = row["id"]
    return token_id


def any_token_was_made(conn: Connection) -> bool:
    """Whether there was ever a token. Revoked tokens count: revoking the last token must not open the API."""
    return conn.execute("SELECT 1 FROM tokens LIMIT 1").fetchone() is not None


def _scopes(names: list[str]) -> frozenset[Scope]:
    return frozenset(Scope(name) for name in names)


def _no_such_token(name: str) -> OperatorError:
    return OperatorError(f"There is no token {name!r}, or it was revoked: `darkroom tokens list` lists all tokens.")
