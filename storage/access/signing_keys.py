"""The secrets that sign links and webhooks. They are encrypted in the database if SECRET_KEY is set.

Each token has its own webhook secret. The deployment has one too: it signs the webhooks of predictions without a token.
It also signs for tokens that are older than the secrets of tokens, until their own secret is rotated.
"""

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
    """Create the first key of each purpose if there is none. Several processes may do this at the same time.

    If SECRET_KEY is set, all keys in use are encrypted with its first key. This includes keys that were stored in plain
    text, or encrypted with one of its other keys. Raises OperatorError if no key of SECRET_KEY can decrypt one of them.
    """
    for purpose in ("webhook", "link"):
        conn.execute(
            """
            INSERT INTO signing_keys (purpose, secret) VALUES (%s, %s)
            ON CONFLICT (purpose) WHERE retired_at IS NULL DO NOTHING
            """,
            (purpose, sealer.seal(_new_secret())),
        )
    for table in ("signing_keys", "webhook_secrets"):
        _reseal(conn, sealer, table)


def _reseal(conn: Connection, sealer: Sealer, table: Literal["signing_keys", "webhook_secrets"]) -> None:
    rows = conn.execute(
        f"SELECT id, secret FROM {table} WHERE retired_at IS NULL OR retired_at > clock_timestamp()"  # noqa: S608 (a constant)
    ).fetchall()
    for row in rows:
        if sealer.needs_sealing(row["secret"]):
            conn.execute(
                f"UPDATE {table} SET secret = %s WHERE id = %s AND secret = %s",  # noqa: S608 (a constant)
                (sealer.seal(sealer.open(row["secret"])), row["id"], row["secret"]),
            )


def active_webhook_secrets(conn: Connection, sealer: Sealer, token_id: int | None = None) -> list[str]:
    """Return the secrets that sign a token's webhooks now, as `whsec_…`, newest first.

    `token_id=None` returns the deployment's secrets. During a rotation, there is more than one.
    """
    row = conn.execute("SELECT darkroom_webhook_secrets_v1(%s) AS secrets", (token_id,)).fetchone()
    assert row is not None
    return open_webhook_secrets(row["secrets"], sealer)


def open_webhook_secrets(sealed: list[str], sealer: Sealer) -> list[str]:
    """Decrypt secrets, as `whsec_…`. Raises OperatorError if `sealer` can't decrypt them."""
    return [WEBHOOK_PREFIX + sealer.open(secret) for secret in sealed]


def rotate_webhook_secret(conn: Connection, sealer: Sealer, *, overlap: timedelta) -> str:
    """Create and return a new secret of the deployment. The current secrets also sign for at most `overlap`.

    Raises OperatorError if `sealer` can't decrypt the current secrets: otherwise no SECRET_KEY of one key could decrypt
    both the old and the new ones.
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


def rotate_webhook_secret_of_token(conn: Connection, sealer: Sealer, token_id: int, *, overlap: timedelta) -> str:
    """The same for a token. If the deployment's secret signs for this token, it also stops after the overlap.

    Raises OperatorError like `rotate_webhook_secret`.
    """
    secret = _new_secret()
    with conn.transaction():
        conn.execute(  # this comes first: its row lock makes a second rotation wait
            "UPDATE tokens SET shared_secret_until = least(shared_secret_until, clock_timestamp() + %s) WHERE id = %s",
            (overlap, token_id),
        )
        active_webhook_secrets(conn, sealer, token_id)
        conn.execute(
            """
            UPDATE webhook_secrets SET retired_at = least(retired_at, clock_timestamp() + %s)
            WHERE token_id = %s AND (retired_at IS NULL OR retired_at > clock_timestamp())
            """,
            (overlap, token_id),
        )
        conn.execute("INSERT INTO webhook_secrets (token_id, secret) VALUES (%s, %s)", (token_id, sealer.seal(secret)))
    return WEBHOOK_PREFIX + secret


def link_keys(conn: Connection, sealer: Sealer) -> list[bytes]:
    """Return the keys for signed links, newest first. The first signs; all of them are accepted."""
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
    """Standard base64 without + and /. Some clients split `whsec_…` at the underscore, so there must be only one."""
    while True:
        secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        if "+" not in secret and "/" not in secret:
            return secret
