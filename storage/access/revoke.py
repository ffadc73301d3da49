"""What a revoked token leaves behind."""

from __future__ import annotations

from storage.postgres.database import Connection
from storage.predictions.finish import Canceled, finish
from storage.predictions.render import Renderer

REASON = "Its token was revoked."

# Read at a time; each is canceled in a transaction of its own.
BATCH = 500


def cancel_unfinished(conn: Connection, renderer: Renderer, token_id: int) -> int:
    """Cancel what waits or is being drawn for a token; returns how many.

    Those that wait come first, so that no worker claims one meanwhile for nothing.
    """
    canceled = 0
    while page := conn.execute(
        """
        SELECT id FROM predictions WHERE token_id = %s AND status IN ('starting', 'processing')
        ORDER BY status DESC, id LIMIT %s
        """,
        (token_id, BATCH),
    ).fetchall():
        # Each that is found here is over afterwards, by this or by somebody else's finish: the loop ends.
        canceled += sum(finish(conn, renderer, row["id"], Canceled(REASON)) is not None for row in page)
    return canceled
