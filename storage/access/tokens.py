"""Access tokens: made, found, listed, replaced and revoked."""

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
    """What a request that carries the token may do."""

    id: int
    name: str
    rate_per_minute: int | None  # None: the setting; 0: no limit
    max_queued: int | None  # likewise
    max_images: int | None  # likewise; of one prediction
    max_priority: int
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class TokenInUse:
    """What a token that is not revoked is at this moment."""

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
    """Returns the token, which can't be read again. Raises OperatorError where the name is taken.

    With it comes a secret of its own that signs its webhooks, encrypted by `sealer`.
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
            f"There is a token {name!r} already: choose another name, or replace it with `darkroom tokens rotate`."
        ) from None
    return token


def find_token(conn: Connection, token: str) -> Token | None:
    """The token that this text is, unless it was revoked. Notes, to the minute, that it was used."""
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
    """Those of these tokens that are not revoked, by their ids."""
    rows = conn.execute("SELECT id, digest, scopes FROM tokens WHERE id = ANY(%s) AND revoked_at IS NULL", (token_ids,))
    return {row["id"]: TokenInUse(row["digest"], _scopes(row["scopes"])) for row in rows}


def list_tokens(conn: Connection) -> list[Row]:
    """All of them, the revoked ones too, oldest first; without their digests."""
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
    """Let it in no more; returns its id. Raises OperatorError where there is none; revoking twice is fine.

    What it has submitted goes on (`storage.access.revoke` cancels it).
    """
    row = conn.execute(
        "UPDATE tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE name = %s RETURNING id", (name,)
    ).fetchone()
    if row is None:
        raise _no_such_token(name)
    token_id: int = row["id"]
    return token_id


def count_unfinished(conn: Connection, token_id: int) -> Row:
    """How many of its predictions are `waiting` and how many `drawing`."""
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


def set_scopes(conn: Connection, name: str, scopes: Collection[Scope]) -> frozenset[Scope]:
    """Give a token these scopes instead of those that it had, which are returned.

    Raises OperatorError where there is none that is in use.
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
    """Raises OperatorError where there is none in use."""
    row = conn.execute("SELECT id FROM tokens WHERE name = %s AND revoked_at IS NULL", (name,)).fetchone()
    if row is None:
        raise _no_such_token(name)
    token_id: int = row["id"]
    return token_id


def any_token_was_made(conn: Connection) -> bool:
    """Also one that is revoked by now: revoking the last one must not open the doors."""
    return conn.execute("SELECT 1 FROM tokens LIMIT 1").fetchone() is not None


def _scopes(names: list[str]) -> frozenset[Scope]:
    return frozenset(Scope(name) for name in names)


def _no_such_token(name: str) -> OperatorError:
    return OperatorError(f"There is no token {name!r} that is in use: `darkroom tokens list` shows what there is.")
