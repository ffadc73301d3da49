"""What happens after the drawing, off the drawing thread: encode, upload, commit or hand back, then end the attempt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.operator.usage import record_work
from storage.postgres.database import Connection
from storage.predictions.claim import hand_back
from storage.predictions.finish import Failed, Outcome, Succeeded
from storage.predictions.progress import progress_line
from storage.predictions.render import Renderer
from storage.predictions.states import PredictionStatus
from storage.workers.cold_starts import record_cold_start
from worker.attempts.attempt import Attempt, ClaimLost, MustLeave
from worker.attempts.progress import ProgressReports
from worker.claims.leases import Leases
from worker.cold_start import ColdStart
from worker.engine import BlankImages, DrawingFailed
from worker.publish.publish import Publisher

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

# An upload mostly waits (encoding a PNG of 1024² takes about 0.2 s). When the two objects of an image take 0.3 s at the
# same time, this many threads publish 53 images a second.
THREADS = 16
# When this many attempts wait for the bucket, the worker claims no more.
MAX_UNPUBLISHED = 32
NO_PREVIEWS = "previews has no effect: this model shows none\n"


class Results:
    """Hears from the scheduler how attempts end (`worker.batching.outcomes`). Other threads do the work."""

    def __init__(
        self,
        pool: ConnectionPool[Connection],
        renderer: Renderer,
        publisher: Publisher,
        leases: Leases,
        reports: ProgressReports,
        *,
        on_release: Callable[[], None],
        passes_blank_images: bool = False,
    ) -> None:
        """`on_release` is called after each attempt has ended and its claim is released."""
        self._pool = pool
        self._renderer = renderer
        self._publisher = publisher
        self._leases = leases
        self._reports = reports
        self._on_release = on_release
        self._passes_blank_images = passes_blank_images
        self._lock = threading.Lock()
        self._unpublished = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="results")

    @property
    def is_full(self) -> bool:
        """Whether so many images wait for the bucket that no more should be drawn."""
        return self._unpublished >= MAX_UNPUBLISHED

    # What the scheduler calls. Each returns at once.

    def on_step(self, attempt: Attempt, preview: Callable[[], Image] | None) -> None:
        if attempt.drawing is not None:
            attempt.sampler = attempt.drawing.sampler
        step, steps = attempt.steps_done, attempt.steps
        if attempt.cold_start is not None:
            attempt.cold_start.end_of("first_step")
            if step == steps:
                attempt.cold_start.end_of("steps")
        attempt.logs = f"{attempt.logs}{_new_notes(attempt, preview)}{progress_line(step, steps)}\n"
        self._reports.report(attempt.claim, attempt.logs, step=step, steps=steps, preview=preview)

    def on_drawn(self, attempt: Attempt, fetch_images: Callable[[], list[Image]]) -> None:
        self._submit(attempt, partial(self._publish, attempt, fetch_images))

    def on_failed(self, attempt: Attempt, reason: str) -> None:
        self._submit(attempt, partial(self._commit, attempt, _failed(attempt, reason)))

    def on_lost(self, attempt: Attempt) -> None:
        _tell_lost(attempt)
        if attempt.gpu_s:
            self._submit(attempt, partial(self._account, attempt))
        else:
            self._release(attempt)

    def on_unfinished(self, attempt: Attempt) -> None:
        self._submit(attempt, partial(self.hand_back_now, attempt))

    # What the worker calls when it ends.

    def hand_back_now(self, attempt: Attempt) -> None:
        """Give the prediction back to the queue, on the calling thread. The claim is not released."""
        try:
            with self._pool.connection() as conn:
                handed_back = hand_back(conn, self._renderer, attempt.id, attempt.claim.claim_id)
        except psycopg.Error as error:  # its lease will expire
            log.warning("prediction.not_handed_back", reason=str(error).strip(), **attempt.names)
            return
        self._account(attempt)
        if handed_back:
            log.info("prediction.handed_back", **attempt.names)
            attempt.spans.send("handed_back")
        else:
            _tell_lost(attempt)

    def close(self) -> None:
        """Return when everything is published or handed back. MustLeave limits how long that takes."""
        self._threads.shutdown(wait=True)
        self._publisher.close()

    # On the threads of the pool.

    def _submit(self, attempt: Attempt, work: Callable[[], None]) -> None:
        with self._lock:
            self._unpublished += 1
        self._threads.submit(self._run, attempt, work)

    def _run(self, attempt: Attempt, work: Callable[[], None]) -> None:
        self._reports.forget(attempt.claim)
        try:
            with structlog.contextvars.bound_contextvars(**attempt.names):
                work()
        finally:
            with self._lock:
                self._unpublished -= 1
            self._release(attempt)

    def _publish(self, attempt: Attempt, fetch_images: Callable[[], list[Image]]) -> None:
        outcome: Outcome
        try:
            with attempt.spans.phase("fetch"):
                images, note = self._fetch(fetch_images)
            _end_phase(attempt, "decode")
            stored = self._publisher.upload(attempt, images)
            _end_phase(attempt, "upload")
            metrics: dict[str, Any] = {"batch_size": attempt.batch_size} | _work_of(attempt)
            if attempt.cold_start is not None:
                metrics["cold_start"] = attempt.cold_start.seconds
            outcome = Succeeded(stored, logs=f"{attempt.logs}{note}", metrics=metrics, reusable=not note)
        except DrawingFailed as error:
            outcome = _failed(attempt, str(error))
        except ClaimLost:
            _tell_lost(attempt)
            self._account(attempt)
            return
        except MustLeave:
            self.hand_back_now(attempt)
            return
        except Exception as error:
            log.exception("prediction.not_published")
            reason = f"The image could not be published: {type(error).__name__}: {error}"
            outcome = _failed(attempt, reason)
        self._commit(attempt, outcome)

    def _fetch(self, fetch_images: Callable[[], list[Image]]) -> tuple[list[Image], str]:
        """The images, and a line for the logs if some are blank and the model's catalog entry allows that.

        Raises BlankImages if it doesn't.
        """
        try:
            return fetch_images(), ""
        except BlankImages as error:
            log.warning("prediction.blank_image", reason=str(error), passed_on=self._passes_blank_images)
            if not self._passes_blank_images:
                raise
            return error.images, f"{error}\n"

    def _commit(self, attempt: Attempt, outcome: Outcome) -> None:
        try:
            row = self._publisher.commit(attempt, outcome)
        except ClaimLost:
            _tell_lost(attempt)
            self._account(attempt)
        except MustLeave:
            self.hand_back_now(attempt)
        except Exception:  # the lease will expire, and another worker tries
            log.exception("prediction.not_committed", **attempt.names)
        else:
            reason = {} if outcome.error is None else {"error": outcome.error}
            metrics = row["metrics"]
            log.info(
                f"prediction.{outcome.status.value}",
                **attempt.names,
                **reason,
                predict_time_s=metrics["predict_time"],
                total_time_s=metrics["total_time"],
            )
            if outcome.status is PredictionStatus.SUCCEEDED and attempt.cold_start is not None:
                self._record_cold_start(row["model"], attempt.cold_start)
            attempt.spans.send(outcome.status.value, error=None if outcome.error is None else "not drawn")

    def _record_cold_start(self, model: str, cold_start: ColdStart) -> None:
        log.info("worker.cold_start", **{f"{phase}_s": round(took, 3) for phase, took in cold_start.seconds.items()})
        try:
            with self._pool.connection() as conn:
                record_cold_start(conn, model, cold_start.seconds)
        except psycopg.Error as error:
            log.warning("worker.cold_start_not_counted", reason=str(error).strip().partition("\n")[0])

    def _account(self, attempt: Attempt) -> None:
        """Count what an attempt has used whose result is not written. If Postgres is away, that isn't counted."""
        if not attempt.gpu_s:
            return
        try:
            with self._pool.connection() as conn:
                record_work(conn, attempt.id, steps=attempt.image_steps, gpu_seconds=attempt.gpu_s)
        except psycopg.Error as error:
            log.warning("usage.not_counted", reason=str(error).strip().partition("\n")[0], **attempt.names)

    def _release(self, attempt: Attempt) -> None:
        self._leases.release(attempt)
        self._reports.forget(attempt.claim)
        self._on_release()


def _new_notes(attempt: Attempt, preview: Callable[[], Image] | None) -> str:
    """Lines that the logs don't hold yet (an earlier attempt may have written them): notes of the engine, and ours."""
    notes = [f"{note}\n" for note in attempt.drawing.notes] if attempt.drawing is not None else []
    if attempt.parameters.previews and preview is None:
        notes.append(NO_PREVIEWS)
    return "".join(note for note in notes if note not in attempt.logs)


def _end_phase(attempt: Attempt, phase: str) -> None:
    if attempt.cold_start is not None:
        attempt.cold_start.end_of(phase)


def _failed(attempt: Attempt, reason: str) -> Failed:
    return Failed(reason, logs=attempt.logs, metrics=_work_of(attempt))


def _work_of(attempt: Attempt) -> dict[str, float]:
    """What the drawing took: seconds of the device, and steps of images."""
    return {"gpu_time": round(attempt.gpu_s, 6), "step_count": attempt.image_steps}


def _tell_lost(attempt: Attempt) -> None:
    """Say how the attempt ended when this worker did not end it."""
    attempt.spans.send("lost")
    if attempt.ended_as is PredictionStatus.CANCELED:
        log.info("prediction.canceled", **attempt.names)
    else:
        log.info("prediction.claim_lost", **attempt.names)
