"""Darkroom's own secrets: one signs webhooks, the other signs links."""

from __future__ import annotations

import base64
import secrets
from typing import Literal

from storage.database import Connection

Purpose = Literal["webhook", "link"]

WEBHOOK_PREFIX = "whsec_"
SECRET_BYTES = 32  # Standard Webhooks asks for 24 to 64


def ensure_keys(conn: Connection) -> None:
    """Make the first key of each purpose where there is none; two processes at once agree on one."""
    for purpose in ("webhook", "link"):
        conn.execute(
            """
            INSERT INTO signing_keys (purpose, secret) VALUES (%s, %s)
            ON CONFLICT (purpose) WHERE retired_at IS NULL DO NOTHING
            """,
            (purpose, _new_secret()),
        )


def active_webhook_secrets(conn: Connection) -> list[str]:
    """The secrets that sign now, newest first, as `whsec_…`. More than one while a secret is being rotated."""
    return [WEBHOOK_PREFIX + secret for secret in _secrets(conn, "webhook")]


def link_keys(conn: Connection) -> list[bytes]:
    """The keys of signed links, newest first: the first signs, all of them are accepted."""
    return [base64.b64decode(secret) for secret in _secrets(conn, "link")]


def _secrets(conn: Connection, purpose: Purpose) -> list[str]:
    rows = conn.execute(
        """
        SELECT secret FROM signing_keys
        WHERE purpose = %s AND (retired_at IS NULL OR retired_at > clock_timestamp())
        ORDER BY created_at DESC, id DESC
        """,
        (purpose,),
    ).fetchall()
    return [row["secret"] for row in rows]


def _new_secret() -> str:
    """Standard base64 without + and /, so that `whsec_…` holds exactly one underscore and no odd characters.

    Clients split at the underscore; a secret with another one would be cut.
    """
    while True:
        secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        if "+" not in secret and "/" not in secret:
            return secret
