"""The secrets that sign webhooks, one of each token, and links. Encrypted at rest where SECRET_KEY is set.

The deployment has a webhook secret too. It signs what belongs to no token, and the webhooks of tokens that were made
before tokens had secrets, until theirs is rotated.
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
    for table in ("signing_keys", "webhook_secrets"):
        _seal_anew(conn, sealer, table)


def _seal_anew(conn: Connection, sealer: Sealer, table: Literal["signing_keys", "webhook_secrets"]) -> None:
    rows = conn.execute(
        f"SELECT id, secret FROM {table} WHERE retired_at IS NULL OR retired_at > clock_timestamp()"  # noqa: S608 (a constant)
    ).fetchall()
    for row in rows:
        if sealer.wants_to_seal(row["secret"]):
            conn.execute(
                f"UPDATE {table} SET secret = %s WHERE id = %s AND secret = %s",  # noqa: S608 (a constant)
                (sealer.seal(sealer.open(row["secret"])), row["id"], row["secret"]),
            )


def active_webhook_secrets(conn: Connection, sealer: Sealer, token_id: int | None = None) -> list[str]:
    """The secrets that sign a token's webhooks now, newest first, as `whsec_…`; without one, the deployment's.

    More than one while a secret is being rotated.
    """
    row = conn.execute("SELECT darkroom_webhook_secrets_v1(%s) AS secrets", (token_id,)).fetchone()
    assert row is not None
    return open_webhook_secrets(row["secrets"], sealer)


def open_webhook_secrets(sealed: list[str], sealer: Sealer) -> list[str]:
    """As `whsec_…`. Raises OperatorError where `sealer` can't open them."""
    return [WEBHOOK_PREFIX + sealer.open(secret) for secret in sealed]


def rotate_webhook_secret(conn: Connection, sealer: Sealer, *, overlap: timedelta) -> str:
    """Make a new secret of the deployment; those that sign now go on beside it for `overlap` at most. Returns it.

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


def rotate_webhook_secret_of_token(conn: Connection, sealer: Sealer, token_id: int, *, overlap: timedelta) -> str:
    """The same for a token. The deployment's secret, where it signs for this token, ends with the overlap too.

    Raises OperatorError as `rotate_webhook_secret` does.
    """
    secret = _new_secret()
    with conn.transaction():
        conn.execute(  # first: it also makes two rotations at once wait for each other
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
