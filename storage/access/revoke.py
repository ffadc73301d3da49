"""Cancels the unfinished predictions of a revoked token."""

from __future__ import annotations

from storage.postgres.database import Connection
from storage.predictions.finish import Canceled, finish
from storage.predictions.render import Renderer

REASON = "Its token was revoked."

# Ids read in one query. Each prediction is canceled in its own transaction.
BATCH = 500


def cancel_unfinished(conn: Connection, renderer: Renderer, token_id: int) -> int:
    """Cancel the waiting and running predictions of a token. Returns how many.

    The waiting ones come first, so that workers don't claim them only to lose them.
    """
    canceled = 0
    while page := conn.execute(
        """
        SELECT id FROM predictions WHERE token_id = %s AND status IN ('starting', 'processing')
        ORDER BY status DESC, id LIMIT %s
        """,
        (token_id, BATCH),
    ).fetchall():
        # After this line, each prediction of the page has ended, here or elsewhere. So the loop ends.
        canceled += sum(finish(conn, renderer, row["id"], Canceled(REASON)) is not None for row in page)
    return canceled
