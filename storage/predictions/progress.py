"""What a client sees of a drawing before it is done: the logs, which hold the progress."""

from __future__ import annotations

from uuid import UUID

from storage.postgres.database import Connection
from storage.postgres.notify import LOGS, notify
from storage.predictions.render import Renderer
from storage.webhooks.events import write_event


def write_logs(conn: Connection, renderer: Renderer, prediction_id: str, claim_id: UUID, logs: str) -> bool:
    """Replace the logs of a prediction that is being drawn; False where the claim is lost.

    Receivers that asked for `logs` events get one; it is dropped when `completed` is written first.
    """
    with conn.transaction():
        prediction = conn.execute(
            """
            UPDATE predictions SET logs = %(logs)s
            WHERE id = %(id)s AND claim_id = %(claim_id)s AND status = 'processing'
            RETURNING *
            """,
            {"logs": logs, "id": prediction_id, "claim_id": claim_id},
        ).fetchone()
        if prediction is None:
            return False
        write_event(conn, renderer, prediction, "logs")
        notify(conn, prediction, about=LOGS)
        return True


def read_progress(logs: str) -> tuple[int, int] | None:
    """The step and the steps of the last progress line in the logs, as Replicate's clients read it."""
    last = logs.rpartition("|")[2].split("\n")[0].strip()
    step, slash, steps = last.partition("/")
    if slash and step.isascii() and steps.isascii() and step.isdigit() and steps.isdigit():
        return int(step), int(steps)
    return None


def note_on_waiting(conn: Connection, model: str, note: str) -> int:
    """Add a line to the logs of the predictions that wait for a model, once; returns to how many."""
    line = f"{note}\n"
    return conn.execute(
        """
        UPDATE predictions SET logs = logs || %(line)s
        WHERE model = %(model)s AND status = 'starting' AND strpos(logs, %(line)s) = 0
        """,
        {"model": model, "line": line},
    ).rowcount


def progress_line(step: int, steps: int) -> str:
    """A line as tqdm writes it: Replicate's clients read `prediction.progress` out of it."""
    filled = 10 * step // steps
    return f"{100 * step // steps:3d}%|{'#' * filled:<10}| {step}/{steps}"
