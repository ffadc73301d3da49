"""What becomes of a drawing, off the drawing thread: encode, upload, commit, hand back, and let the claim go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.postgres.database import Connection
from storage.predictions.claim import hand_back
from storage.predictions.finish import Failed, Outcome, Succeeded
from storage.predictions.progress import progress_line
from storage.predictions.render import Wire
from worker.batching.commission import Commission
from worker.leases import ClaimLost, HeldClaim, Leases, MustLeave
from worker.progress import ProgressReports
from worker.publish.publish import Publisher

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

# An upload waits most of its time (encoding a PNG of 1024² takes about 0.2 s): with two objects of 0.3 s a picture,
# so many publish 26 pictures a second.
THREADS = 16
# Pictures wait here for the bucket; when so many do, the scheduler takes no more in.
MAX_UNPUBLISHED = 32


class Results:
    """The scheduler's Outcomes. Each returns at once; the work is done by a few threads."""

    def __init__(
        self,
        pool: ConnectionPool[Connection],
        wire: Wire,
        publisher: Publisher,
        leases: Leases,
        reports: ProgressReports,
        *,
        on_release: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._wire = wire
        self._publisher = publisher
        self._leases = leases
        self._reports = reports
        self._on_release = on_release
        self._logs: dict[HeldClaim, str] = {}
        self._lock = threading.Lock()
        self._unpublished = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="results")

    @property
    def is_full(self) -> bool:
        """So many pictures wait for the bucket that no more should be drawn."""
        return self._unpublished >= MAX_UNPUBLISHED

    def stepped(self, commission: Commission, preview: Callable[[], Image] | None) -> None:
        step, steps = commission.steps_done, commission.steps
        logs = self._logs.get(commission.held, commission.claim.prediction["logs"])
        self._logs[commission.held] = logs = f"{logs}{progress_line(step, steps)}\n"
        self._reports.report(commission.claim, logs, step=step, steps=steps, preview=preview)

    def drawn(self, commission: Commission, fetch_images: Callable[[], list[Image]]) -> None:
        self._do(commission.held, partial(self._publish, commission, fetch_images))

    def failed(self, commission: Commission, reason: str) -> None:
        self.fail(commission.held, reason)

    def fail(self, held: HeldClaim, reason: str) -> None:
        """Also for what never came into the scheduler."""
        logs = self._logs.get(held, held.claim.prediction["logs"])
        self._do(held, partial(self._finish, held, Failed(reason, logs=logs)))

    def dropped(self, commission: Commission) -> None:
        log.info("prediction.claim_lost", prediction_id=commission.id, attempt=commission.claim.attempt)
        self._let_go(commission.held)

    def returned(self, commission: Commission) -> None:
        self.give_back(commission.held)

    def give_back(self, held: HeldClaim) -> None:
        """Hand it back, for another worker."""
        self._do(held, partial(self.hand_back, held))

    def hand_back(self, held: HeldClaim) -> None:
        """The same, on this thread."""
        try:
            with self._pool.connection() as conn:
                handed_back = hand_back(conn, self._wire, held.claim.prediction_id, held.claim.claim_id)
            log.info("prediction.handed_back" if handed_back else "prediction.claim_lost", **_names(held))
        except psycopg.Error as error:  # its lease will expire
            log.warning("prediction.not_handed_back", reason=str(error).strip(), **_names(held))

    def close(self) -> None:
        """Return when all of it is done; MustLeave bounds it."""
        self._threads.shutdown(wait=True)

    def _do(self, held: HeldClaim, work: Callable[[], None]) -> None:
        with self._lock:
            self._unpublished += 1
        self._threads.submit(self._run, held, work)

    def _run(self, held: HeldClaim, work: Callable[[], None]) -> None:
        self._reports.forget(held.claim)
        try:
            with structlog.contextvars.bound_contextvars(**_names(held)):
                work()
        finally:
            with self._lock:
                self._unpublished -= 1
            self._let_go(held)

    def _publish(self, commission: Commission, fetch_images: Callable[[], list[Image]]) -> None:
        held = commission.held
        logs = self._logs.get(held, "")
        outcome: Outcome
        try:
            stored = self._publisher.upload(held, fetch_images(), commission.parameters)
            outcome = Succeeded(stored, logs=logs, metrics={"batch_size": commission.batch_size})
        except ClaimLost:
            log.info("prediction.claim_lost")
            return
        except MustLeave:
            self.hand_back(held)
            return
        except Exception as error:
            log.exception("prediction.not_published")
            outcome = Failed(f"The picture could not be published: {type(error).__name__}: {error}", logs=logs)
        self._finish(held, outcome)

    def _finish(self, held: HeldClaim, outcome: Outcome) -> None:
        try:
            self._publisher.finish(held, outcome)
            log.info(f"prediction.{outcome.status.value}", error=outcome.error)
        except ClaimLost:
            log.info("prediction.claim_lost")
        except MustLeave:
            self.hand_back(held)
        except Exception:  # the lease will expire, and another worker tries
            log.exception("prediction.not_committed")

    def _let_go(self, held: HeldClaim) -> None:
        self._logs.pop(held, None)
        self._leases.release(held)
        self._reports.forget(held.claim)
        self._on_release()


def _names(held: HeldClaim) -> dict[str, str | int]:
    return {"prediction_id": held.claim.prediction_id, "attempt": held.claim.attempt}
