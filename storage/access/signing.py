"""Darkroom's own secrets: one signs webhooks, the other signs links. Encrypted at rest where SECRET_KEY is set."""

from __future__ import annotations

import base64
import secrets
from datetime import timedelta
from typing import Literal

from storage.access.sealing import Sealer
from storage.postgres.database import Connection

Purpose = Literal["webhook", "link"]

WEBHOOK_PREFIX = "whsec_"
SECRET_BYTES = 32  # Standard Webhooks asks for 24 to 64


def ensure_keys(conn: Connection, sealer: Sealer) -> None:
    """Make the first key of each purpose where there is none; two processes at once agree on one.

    Where there is a SECRET_KEY, what is in use is encrypted with the first one: what lies there in the clear, and what
    was encrypted with one that stands behind it. Raises OperatorError for what none of them opens.
    """
    for purpose in ("webhook", "link"):
        conn.execute(
            """
            INSERT INTO signing_keys (purpose, secret) VALUES (%s, %s)
            ON CONFLICT (purpose) WHERE retired_at IS NULL DO NOTHING
            """,
            (purpose, sealer.seal(_new_secret())),
        )
    in_use = "SELECT id, secret FROM signing_keys WHERE retired_at IS NULL OR retired_at > clock_timestamp()"
    for row in conn.execute(in_use).fetchall():
        if sealer.wants_to_seal(row["secret"]):
            conn.execute(
                "UPDATE signing_keys SET secret = %s WHERE id = %s AND secret = %s",
                (sealer.seal(sealer.open(row["secret"])), row["id"], row["secret"]),
            )


def active_webhook_secrets(conn: Connection, sealer: Sealer) -> list[str]:
    """The secrets that sign now, newest first, as `whsec_…`. More than one while a secret is being rotated."""
    return [WEBHOOK_PREFIX + secret for secret in _secrets(conn, "webhook", sealer)]


def rotate_webhook_secret(conn: Connection, sealer: Sealer, *, overlap: timedelta) -> str:
    """Make a new webhook secret; those that sign now go on beside it for `overlap` at most. Returns the new one.

    Raises OperatorError where `sealer` can't open what signs now: nobody could open both with one SECRET_KEY.
    """
    secret = _new_secret()
    with conn.transaction():
        active_webhook_secrets(conn, sealer)
        conn.execute(
            """
            UPDATE signing_keys SET retired_at = least(retired_at, clock_timestamp() + %s)
            WHERE purpose = 'webhook' AND (retired_at IS NULL OR retired_at > clock_timestamp())
            """,
            (overlap,),
        )
        conn.execute(
            "INSERT INTO signing_keys (purpose, secret) VALUES ('webhook', %s)",
            (sealer.seal(secret),),
        )
    return WEBHOOK_PREFIX + secret


def link_keys(conn: Connection, sealer: Sealer) -> list[bytes]:
    """The keys of signed links, newest first: the first signs, all of them are accepted."""
    return [base64.b64decode(secret) for secret in _secrets(conn, "link", sealer)]


def _secrets(conn: Connection, purpose: Purpose, sealer: Sealer) -> list[str]:
    rows = conn.execute(
        """
        SELECT secret FROM signing_keys
        WHERE purpose = %s AND (retired_at IS NULL OR retired_at > clock_timestamp())
        ORDER BY created_at DESC, id DESC
        """,
        (purpose,),
    ).fetchall()
    return [sealer.open(row["secret"]) for row in rows]


def _new_secret() -> str:
    """Standard base64 without + and /, so that `whsec_…` holds exactly one underscore and no odd characters.

    Clients split at the underscore; a secret with another one would be cut.
    """
    while True:
        secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        if "+" not in secret and "/" not in secret:
            return secret
