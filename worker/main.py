"""A worker's life: load, take in, draw, publish, and leave when there is nothing to do."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from types import FrameType
from uuid import uuid4

import psycopg
import structlog

from storage import logs
from storage.bucket import Bucket
from storage.catalog import Catalog, Model, load_catalog
from storage.claim import Claim, hand_back
from storage.database import Connection, open_pool
from storage.errors import OperatorError, UnknownModel
from storage.finish import Failed, Outcome, Succeeded
from storage.migrate import check
from storage.parameters import Parameters
from storage.presence import Presence, WorkerState, say_alive, say_goodbye
from storage.progress import progress_line
from storage.states import PredictionStatus
from storage.wire import open_wire
from worker.engine import DrawingFailed, Engine, ModelNotLoaded, make_engine
from worker.intake import Intake
from worker.leases import ClaimLost, HeldClaim, Leases
from worker.progress import ProgressReports
from worker.publish import Publisher
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

EXIT_MODEL_NOT_LOADED = 1
POOL_SIZE = 4  # claims, results, logs, and one to spare


class MustHandBack(Exception):
    """The worker has to leave before this drawing is done."""


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
    return WorkerProcess(settings, chosen, idle_exit_s=idle_exit_s).run()


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


class WorkerProcess:
    """One process that draws with one model."""

    def __init__(self, settings: WorkerSettings, model: Model, *, idle_exit_s: float | None) -> None:
        self._settings = settings
        self._model = model
        self._idle_exit_s = idle_exit_s
        self._presence = Presence(
            id=uuid4(), hostname=socket.gethostname(), pid=os.getpid(), model=model.name, state="loading"
        )
        self._leaving = threading.Event()
        self._leave_by: float | None = None  # time.monotonic(); what is drawn then is handed back
        self._pool = open_pool(settings, application_name="darkroom worker", size=POOL_SIZE)
        with self._pool.connection() as conn:
            self._wire = open_wire(settings, conn)
        self._engine: Engine = make_engine(model, device=settings.device)
        self._publisher = Publisher(
            self._pool, Bucket(settings), self._wire, settings.s3_prefix, settings.embed_parameters
        )
        self._reports = ProgressReports(self._pool, self._wire)
        self._leases = Leases(
            settings.direct_url, stall_s=settings.stall_seconds, on_beat=self._beat, on_stall=self._on_stall
        )
        self._intake = Intake(
            self._pool,
            self._wire,
            direct_url=settings.direct_url,
            queue_name=model.queue_name,
            worker_id=self._presence.id,
            on_event=self._on_event,
        )

    def run(self) -> int:
        """Load, draw, leave."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._leases.start()
        try:
            if not self._load():
                return EXIT_MODEL_NOT_LOADED
            self._reports.start()
            self._intake.start()
            self._take_in()
            return 0
        except SystemExit:  # SIGTERM while the model was loading: nothing is held
            return 0
        finally:
            self._leave()

    def _load(self) -> bool:
        try:
            self._engine.load()
        except ModelNotLoaded as error:
            log.error("model.not_loaded", model=self._model.name, reason=str(error))
            self._say("failed", error=str(error))
            return False
        self._say("idle", device=self._engine.device)
        log.info("worker.ready", model=self._model.name, device=self._engine.device, pid=os.getpid())
        return True

    def _take_in(self) -> None:
        idle_since = time.monotonic()
        while not self._leaving.is_set():
            claim = self._intake.take()
            if claim is not None:
                self._say("drawing")
                self._draw(claim)
                self._say("draining" if self._leaving.is_set() else "idle")
                idle_since = time.monotonic()
                continue
            if self._idle_exit_s is not None and time.monotonic() - idle_since >= self._idle_exit_s:
                log.info("worker.idle_exit", idle_exit_s=self._idle_exit_s)
                return
            self._intake.wait(self._settings.poll_seconds)

    def _draw(self, claim: Claim) -> None:
        with (
            structlog.contextvars.bound_contextvars(prediction_id=claim.prediction_id, attempt=claim.attempt),
            self._leases.hold(claim) as held,
        ):
            log.info("prediction.claimed", model=self._model.name)
            try:
                outcome = self._outcome_of(held)
                self._publisher.finish(held, outcome)
                log.info(f"prediction.{outcome.status.value}", error=outcome.error)
            except ClaimLost:
                log.info("prediction.claim_lost")
            except MustHandBack:
                self._hand_back(held)

    def _outcome_of(self, held: HeldClaim) -> Outcome:
        """Draw and upload. Raises ClaimLost, MustHandBack; anything else is this prediction's failure."""
        text = held.claim.prediction["logs"]
        try:
            parameters = Parameters.from_json(held.claim.prediction["parameters"])
            drawing = self._engine.begin(parameters)
            while drawing.steps_done < drawing.steps:
                held.raise_if_lost()
                self._raise_if_must_leave()
                self._engine.step([drawing])
                held.progressed()
                text += progress_line(drawing.steps_done, drawing.steps) + "\n"
                self._reports.report(held.claim, text)
            images = self._engine.finish(drawing)
            held.progressed()
            stored = self._publisher.upload(held, images, parameters)
            return Succeeded(stored, logs=text, metrics={"batch_size": 1})
        except (ClaimLost, MustHandBack):
            raise
        except DrawingFailed as error:
            return Failed(str(error), logs=text)
        except Exception as error:
            log.exception("prediction.broke")
            return Failed(f"Drawing failed: {type(error).__name__}: {error}", logs=text)
        finally:
            self._reports.forget(held.claim)

    def _hand_back(self, held: HeldClaim) -> None:
        try:
            with self._pool.connection() as conn:
                hand_back(conn, self._wire, held.claim.prediction_id, held.claim.claim_id)
            log.info("prediction.handed_back")
        except psycopg.Error as error:
            log.warning("prediction.not_handed_back", reason=str(error).strip())  # its lease will expire

    def _raise_if_must_leave(self) -> None:
        if self._leave_by is not None and time.monotonic() >= self._leave_by:
            raise MustHandBack

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal lets the drawing go on for the grace period, the second hands it back at once."""
        if self._presence.state == "loading":
            raise SystemExit(0)
        now = time.monotonic()
        self._leave_by = now if self._leaving.is_set() else now + self._settings.grace_seconds
        self._leaving.set()
        self._intake.wake()

    def _on_event(self, payload: str) -> None:
        """A prediction moved: if it is ours and over, its drawing is dropped at the next step."""
        event = json.loads(payload)
        if PredictionStatus(event["status"]).is_terminal:
            self._leases.lose(event["id"])

    def _on_stall(self, stalled: HeldClaim) -> None:
        for held in self._leases.held():
            if held is not stalled and not held.is_lost:
                self._hand_back(held)

    def _beat(self, conn: Connection) -> None:
        say_alive(conn, self._presence)
        self._intake.beat(conn)

    def _say(self, state: WorkerState, *, device: str | None = None, error: str | None = None) -> None:
        self._presence = replace(self._presence, state=state, error=error, device=device or self._presence.device)
        try:
            with self._pool.connection() as conn:
                say_alive(conn, self._presence)
        except psycopg.OperationalError:
            pass  # the next beat says it

    def _leave(self) -> None:
        self._reports.stop()
        self._intake.stop()
        self._leases.stop()
        try:
            with self._pool.connection() as conn:
                say_goodbye(conn, self._presence.id)
        except psycopg.OperationalError as error:
            log.warning("worker.not_taken_out", reason=str(error).strip())
        self._pool.close()
        log.info("worker.left")
