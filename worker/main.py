"""A worker's life: find the bucket, load, take in, draw, publish, and leave when there is nothing to do."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from types import FrameType

import psycopg
import structlog

from storage import logs
from storage.bucket import Bucket, BucketUnavailable
from storage.catalog import Catalog, Model, load_catalog
from storage.errors import OperatorError, UnknownModel
from storage.postgres.database import Connection, open_pool
from storage.postgres.migrate import check
from storage.predictions.claim import Claim, NeedsEmptyWorker
from storage.predictions.parameters import Parameters
from storage.predictions.render import open_wire
from storage.predictions.result_cache import reuse_result
from storage.predictions.states import PredictionStatus
from worker.batching.admission import Admission
from worker.batching.commission import Commission
from worker.batching.saved_step_costs import SavedStepCosts
from worker.batching.scheduler import BatchScheduler
from worker.bucket_at_start import wait_for_bucket
from worker.engine import Engine, ModelNotLoaded, load_engine
from worker.heartbeat import Heartbeat
from worker.intake import CanNotAsk, Intake
from worker.leases import EXIT_STALLED, Leases
from worker.progress import ProgressReports
from worker.publish.publish import Publisher
from worker.publish.results import Results
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

EXIT_MODEL_NOT_LOADED = 1
EXIT_BUCKET_NOT_WRITABLE = 1
EXIT_DEVICE_LOST = EXIT_STALLED
# Whoever publishes sees by itself that the time is up, unless it waits for an S3 that neither answers nor refuses.
HANGS_AFTER_S = 2.0
POOL_SIZE = 8  # claims, progress, results, and one to spare


def run_worker(
    settings: WorkerSettings, *, model: str | None = None, idle_exit_s: float | None = None, drain: bool = False
) -> int:
    """Serve one model until SIGTERM, or until nothing came for `idle_exit_s`; returns the exit code.

    `drain` takes what there is and leaves (after `idle_exit_s`, where that is given too).
    Raises OperatorError: no such model, no Postgres, a schema that this release can't work with.
    """
    logs.configure("worker", log_format=settings.log_format, level=settings.log_level)
    chosen = choose_model(load_catalog(settings.models), model)
    check(settings)
    if drain and idle_exit_s is None:
        idle_exit_s = 0.0
    process = WorkerProcess(settings, chosen, idle_exit_s=idle_exit_s)
    code = process.run()
    if process.hangs:
        logging.shutdown()
        os._exit(code)  # a thread waits for S3, and Python would wait for the thread
    return code


def choose_model(catalog: Catalog, name: str | None) -> Model:
    """The model that a worker serves. Raises OperatorError."""
    if name is None:
        if len(catalog.models) > 1:
            raise OperatorError(f"Several models are in the catalog; name one with --model: {catalog.names()}.")
        return next(iter(catalog.models.values()))
    try:
        return catalog.find(name)
    except UnknownModel as error:
        raise OperatorError(f"--model: {error}.") from None


class Looked(Enum):
    """What came of looking for work. Only one that found nothing may count as idle."""

    CLAIMED = auto()
    NOTHING = auto()
    NOT = auto()  # not looked: we hold enough, the next one has to wait, or Postgres is away


class WorkerProcess:
    """One process that draws with one model."""

    def __init__(
        self,
        settings: WorkerSettings,
        model: Model,
        *,
        idle_exit_s: float | None,
        load: Callable[[], Engine] | None = None,
        bucket: Bucket | None = None,
    ) -> None:
        """`load` and `bucket` stand in for those that the settings describe: benchmarks watch theirs."""
        self._settings = settings
        self._model = model
        self._idle_exit_s = idle_exit_s
        self._load_engine = load or partial(load_engine, model, device=settings.device)
        self._leaving = threading.Event()
        self._leave_by: float | None = None  # time.monotonic(); what is not done then is handed back
        self._pool = open_pool(settings, application_name="darkroom worker", size=POOL_SIZE)
        self._signs = Heartbeat(self._pool, model.name)
        with self._pool.connection() as conn:
            self._wire = open_wire(settings, conn)
        self._reports = ProgressReports(self._pool, self._wire)
        self._leases = Leases(
            settings.direct_url,
            stall_s=settings.stall_seconds,
            on_beat=self._beat,
            on_stall=self._hand_back_the_rest,
            must_leave=self._time_is_up,
        )
        self._intake = Intake(
            self._pool,
            self._wire,
            direct_url=settings.direct_url,
            queue_name=model.queue_name,
            worker_id=self._signs.worker_id,
            on_event=self._on_event,
        )
        self._bucket = bucket or Bucket(settings)
        self._results = Results(
            self._pool,
            self._wire,
            Publisher(self._pool, self._bucket, self._wire, settings.s3_prefix, settings.embed_parameters),
            self._leases,
            self._reports,
            on_release=self._intake.wake,
        )
        self._scheduler: BatchScheduler | None = None
        self._is_starting = True  # nothing was claimed yet
        self.hangs = False

    def run(self) -> int:
        """Find the bucket, load, draw, leave."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
        self._leases.start()
        try:
            try:
                engine = self._start()
            except BucketUnavailable:
                return EXIT_BUCKET_NOT_WRITABLE
            except ModelNotLoaded as error:
                self._signs.say_not_loaded(str(error))
                return EXIT_MODEL_NOT_LOADED
            return self._draw_with(engine)
        except _LeftWhileStarting:
            self._signs.note("draining")  # not failed: nobody has to see its row any more
            return 0
        finally:
            self._leave()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.leave()

    def leave(self) -> None:
        """What a signal does: the first one lets drawings go on for the grace period, the second hands them back."""
        if self._is_starting:
            self._is_starting = False
            raise _LeftWhileStarting
        now = time.monotonic()
        self._leave_by = now if self._leaving.is_set() else now + self._settings.grace_seconds
        self._leaving.set()
        if self._scheduler is not None:
            self._scheduler.leave_by(self._leave_by)
        self._intake.wake()

    def _start(self) -> Engine:
        """Raises BucketUnavailable, ModelNotLoaded, and _LeftWhileStarting from wherever a signal finds it."""
        try:
            wait_for_bucket(self._bucket, self._signs)
            engine = self._load_engine()
        finally:
            self._is_starting = False
        self._signs.say_ready(engine.device)
        log.info("worker.ready", model=self._model.name, device=engine.device, pid=os.getpid())
        return engine

    def _draw_with(self, engine: Engine) -> int:
        kept = SavedStepCosts(self._pool, self._model, device=engine.device)
        scheduler = self._scheduler = BatchScheduler(
            engine,
            Admission(kept.costs, max_images=self._model.max_batch),
            self._results,
            typical=self._model.typical,
            on_free_slot=self._intake.wake,
        )
        self._reports.start()
        self._intake.start()
        drawing = threading.Thread(target=scheduler.run, name="scheduler", daemon=True)
        drawing.start()
        try:
            self._take_in(scheduler, kept)
        finally:
            if not self._leaving.is_set():  # idle exit: nothing is held; a lost device: what is drawn is published
                self._leave_by = time.monotonic() + (0 if scheduler.broken is None else self._settings.grace_seconds)
                self._leaving.set()
            assert self._leave_by is not None
            scheduler.leave_by(self._leave_by)
            drawing.join()
            if scheduler.broken is not None:
                log.error("worker.device_lost", model=self._model.name, reason=str(scheduler.broken))
            for commission in scheduler.unfinished():
                self._results.returned(commission)
            self._publish_the_rest()
            kept.keep()
        return 0 if scheduler.broken is None else EXIT_DEVICE_LOST

    def _publish_the_rest(self) -> None:
        """Let pictures on their way be published until the time is up; what S3 still keeps hanging is handed back."""
        closing = threading.Thread(target=self._results.close, name="closing", daemon=True)
        closing.start()
        assert self._leave_by is not None
        while closing.is_alive() and time.monotonic() < self._leave_by + HANGS_AFTER_S:  # a second SIGTERM moves it
            closing.join(0.1)
        self.hangs = closing.is_alive()
        if self.hangs:
            for held in self._leases.held():
                log.warning("publish.hangs", prediction_id=held.claim.prediction_id, attempt=held.claim.attempt)
                self._results.hand_back(held)

    def _take_in(self, scheduler: BatchScheduler, kept: SavedStepCosts) -> None:
        idle_since = time.monotonic()
        while not self._leaving.is_set() and scheduler.broken is None:
            looked = self._look_for_work(scheduler)
            held = bool(self._leases.held())
            is_idle = looked is Looked.NOTHING and not held
            if not is_idle:
                idle_since = time.monotonic()
            self._signs.note("drawing" if held or looked is Looked.CLAIMED else "idle")
            if looked is Looked.CLAIMED:
                continue
            if self._idle_exit_s is not None and is_idle and time.monotonic() - idle_since >= self._idle_exit_s:
                log.info("worker.idle_exit", idle_exit_s=self._idle_exit_s)
                return
            kept.keep_now_and_then()
            self._intake.wait(self._settings.poll_seconds)

    def _look_for_work(self, scheduler: BatchScheduler) -> Looked:
        """Claim one more prediction for the scheduler, if it wants one and there is one."""
        self._intake.listen_anew()  # before looking: what happens from here on ends the wait
        held = self._leases.held()
        if scheduler.free_slots() == 0 or self._results.is_full or any(other.claim.must_be_alone for other in held):
            return Looked.NOT
        try:
            claim = self._intake.take(holds_others=bool(held))
        except (NeedsEmptyWorker, CanNotAsk):  # the next one must be alone: nothing is taken until this worker is empty
            return Looked.NOT
        if claim is None:
            return Looked.NOTHING
        self._commission(claim, scheduler)
        return Looked.CLAIMED

    def _commission(self, claim: Claim, scheduler: BatchScheduler) -> None:
        log.info("prediction.claimed", prediction_id=claim.prediction_id, attempt=claim.attempt)
        held = self._leases.hold(claim)
        try:
            if self._is_drawn_already(claim):
                self._leases.release(held)
                return
            parameters = Parameters.from_json(claim.prediction["parameters"])
        except TypeError as error:
            self._results.fail(held, f"Its parameters can't be read by this release: {error}")
            return
        scheduler.add(Commission(held, parameters))

    def _is_drawn_already(self, claim: Claim) -> bool:
        """The same picture may have come out since this one was asked for."""
        try:
            with self._pool.connection() as conn:
                if reuse_result(conn, self._wire, claim.prediction, claim_id=claim.claim_id) is None:
                    return False
        except psycopg.OperationalError:
            return False
        log.info("prediction.reused", prediction_id=claim.prediction_id)
        return True

    def _hand_back_the_rest(self) -> None:
        """The device hangs: what is on it counts a crash when its lease expires, the rest goes back."""
        for held in self._leases.held():
            if not held.on_device and not held.is_lost:
                self._results.hand_back(held)

    def _on_event(self, payload: str) -> None:
        """A prediction moved: if it is ours and over, its drawing is dropped at the next step."""
        event = json.loads(payload)
        if "status" in event and PredictionStatus(event["status"]).is_terminal:
            self._leases.lose(event["id"])

    def _time_is_up(self) -> bool:
        return self._leave_by is not None and time.monotonic() >= self._leave_by

    def _beat(self, conn: Connection) -> None:
        self._signs.beat(conn)
        self._intake.beat(conn)

    def _leave(self) -> None:
        self._reports.stop()
        self._intake.stop()
        self._leases.stop()
        self._signs.say_goodbye()
        self._pool.close()
        log.info("worker.left")


class _LeftWhileStarting(BaseException):
    """SIGTERM before the first claim: nothing is held. No library that loads or asks S3 may catch it."""
