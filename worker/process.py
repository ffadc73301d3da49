"""The parts of a worker, and the order in which they run: start, draw, drain, leave."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from functools import partial

import structlog

from storage import tracing
from storage.catalog import Model
from storage.postgres.database import Connection, open_pool
from storage.predictions.render import open_renderer
from storage.predictions.states import PredictionStatus
from storage.s3.bucket import Bucket, BucketUnavailable
from storage.workers.registry import WorkerLoad
from worker.attempts.inputs import Inputs
from worker.attempts.lora_downloads import LoraDownloads
from worker.attempts.progress import ProgressReports
from worker.batching.admission import Admission
from worker.batching.saved_step_costs import SavedStepCosts
from worker.batching.scheduler import BatchScheduler
from worker.bucket_at_start import wait_for_bucket
from worker.claims.bell_listener import BellListener
from worker.claims.claim_loop import ClaimLoop
from worker.claims.leases import EXIT_STALLED, Leases
from worker.cold_start import ColdStart
from worker.drain import drain_scheduler
from worker.engine import Engine, ModelNotLoaded, load_engine
from worker.heartbeat import Heartbeat
from worker.lifecycle import Lifecycle, Stage
from worker.publish.content_credentials import open_credentials
from worker.publish.publish import Publisher
from worker.publish.results import Results
from worker.settings import WorkerSettings
from worker.standby import Standby

log = structlog.get_logger(__name__)

EXIT_MODEL_NOT_LOADED = 1
EXIT_BUCKET_NOT_WRITABLE = 1
EXIT_DEVICE_LOST = EXIT_STALLED
POOL_SIZE = 8  # claims, progress, results, and one to spare


class WorkerProcess:
    """One process that draws with one model. `lifecycle` says at which stage it is."""

    def __init__(
        self,
        settings: WorkerSettings,
        model: Model,
        *,
        idle_exit_s: float | None,
        leaves_always: bool = False,
        host_decides: bool = False,
        load: Callable[[], Engine] | None = None,
        bucket: Bucket | None = None,
    ) -> None:
        """`leaves_always`: it leaves when it is idle, also if the model is to be kept ready. `host_decides`: when it
        stands by.

        `load` and `bucket` replace those that the settings describe: benchmarks measure theirs."""
        self._model = model
        downloads = LoraDownloads(
            settings.lora_folder,
            hosts=settings.lora_hosts,
            max_bytes=settings.max_lora_bytes,
            max_folder_bytes=settings.max_lora_folder_bytes,
        )
        self._standby = Standby(
            after_s=settings.standby_after_s if model.device.can_rest else None, host_decides=host_decides
        )
        self._cold_start = ColdStart()
        self._load_engine = load or partial(
            load_engine, model, device=settings.device, downloads=downloads, after=self._cold_start.end_of
        )
        self._bucket = bucket or Bucket(settings)
        self._pool = open_pool(settings, application_name="darkroom worker", size=POOL_SIZE)
        with self._pool.connection() as conn:
            renderer = open_renderer(settings, conn)
        self.lifecycle = Lifecycle(grace_s=settings.grace_seconds)
        self._heartbeat = Heartbeat(self._pool, model.name)
        self._reports = ProgressReports(self._pool, renderer)
        self._leases = Leases(
            settings.direct_url,
            stall_s=settings.stall_seconds,
            on_beat=self._beat,
            on_stall=self._hand_back_the_rest,
            must_leave=self.lifecycle.time_is_up,
        )
        self._bells = BellListener(
            self._pool,
            renderer,
            direct_url=settings.direct_url,
            queue_name=model.queue_name,
            worker_id=self._heartbeat.worker_id,
            on_event=self._on_event,
        )
        self._results = Results(
            self._pool,
            renderer,
            Publisher(
                self._pool,
                self._bucket,
                renderer,
                settings.s3_prefix,
                embed_parameters=settings.embed_parameters,
                mark_ai_generated=settings.mark_ai_generated,
                credentials=open_credentials(settings),
            ),
            self._leases,
            self._reports,
            on_release=self._bells.wake,
            passes_blank_images=model.on_blank_image == "pass",
        )
        self._claim_loop = ClaimLoop(
            self._pool,
            renderer,
            self._bucket,
            Inputs(self._bucket, settings.s3_prefix, downloads, keeps_sizes=model.takes_several_images),
            self._bells,
            self._leases,
            self._results,
            self._heartbeat,
            poll_s=settings.poll_seconds,
            idle_exit_s=idle_exit_s,
            may_leave=(lambda: True) if leaves_always else partial(self._heartbeat.leave_if_enough, model),
            standby=self._standby,
        )
        self._scheduler: BatchScheduler | None = None  # from DRAWING on
        self.hangs = False  # after `run`: a thread still waits for S3

    def run(self) -> int:
        """Wait for the bucket, load, draw, leave; returns the exit code."""
        self._leases.start()
        try:
            try:
                wait_for_bucket(self._bucket, self._heartbeat)
                began_at = tracing.now()
                self._cold_start.end_of("process")
                engine = self._load()
            except BucketUnavailable:
                self.lifecycle.end()
                return EXIT_BUCKET_NOT_WRITABLE
            except ModelNotLoaded as error:
                self.lifecycle.end()
                self._heartbeat.say_not_loaded(str(error))
                return EXIT_MODEL_NOT_LOADED
            if not self.lifecycle.begin_drawing():
                return 0
            self._heartbeat.say_ready(engine.device, version=self._model.version, joins_midway=engine.joins_midway)
            log.info("worker.ready", model=self._model.name, device=engine.device, pid=os.getpid())
            return self._draw_with(engine, loaded=(began_at, tracing.now()))
        finally:
            self._leave()

    def leave(self) -> Stage:
        """What a stop signal does (see `Lifecycle.stop`); returns the stage it came in. Any thread may call it."""
        before = self.lifecycle.stop()
        if before in (Stage.DRAWING, Stage.DRAINING) and self._scheduler is not None:
            self._scheduler.leave_by(self.lifecycle.leave_by)
        self._bells.wake()
        return before

    def stand_by(self) -> None:
        """What the host orders with STAND_BY. Any thread may call it."""
        if self._model.device.can_rest:
            self._standby.order(stand_by=True)
            self._bells.wake()

    def wake_up(self) -> None:
        """What the host orders with WAKE_UP. Any thread may call it."""
        self._standby.order(stand_by=False)
        self._bells.wake()

    def say_goodbye(self) -> None:
        """Remove this worker's row while it starts, whatever its main thread is doing."""
        self._leases.stop()  # or the next heartbeat would write the row again
        self._heartbeat.say_goodbye(even_if_failed=True)
        log.info("worker.left")

    def _load(self) -> Engine:
        """Raises ModelNotLoaded, also for errors that no engine expects: clients that wait are told of those too."""
        try:
            return self._load_engine()
        except ModelNotLoaded:
            raise
        except Exception as error:
            log.exception("model.loading_broke", model=self._model.name)
            raise ModelNotLoaded(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error

    def _draw_with(self, engine: Engine, *, loaded: tuple[float, float]) -> int:
        saved_costs = SavedStepCosts(self._pool, self._model, device=engine.device)
        scheduler = self._scheduler = BatchScheduler(
            engine,
            Admission(saved_costs.costs, max_images=self._model.max_batch),
            self._results,
            typical=self._model.typical,
            on_free_slot=self._bells.wake,
        )
        self._heartbeat.watch(
            lambda: WorkerLoad(images=scheduler.images, device_free_bytes=scheduler.device_free_bytes)
        )
        self._reports.start()
        self._bells.start()
        drawing = threading.Thread(target=scheduler.run, name="drawing", daemon=True)
        drawing.start()
        try:
            self._claim_loop.run(
                scheduler,
                saved_costs,
                goes_on=lambda: self.lifecycle.stage is Stage.DRAWING,
                loaded=loaded,
                cold_start=self._cold_start,
            )
        finally:
            # Idle exit: nothing is held. Device lost: what is drawn already is still published.
            self.lifecycle.drain(at_once=scheduler.broken is None)
            self._heartbeat.note("draining")
            self.hangs = not drain_scheduler(scheduler, drawing, self._results, self._leases, self.lifecycle)
            saved_costs.save()
        if scheduler.broken is None:
            return 0
        log.error("worker.device_lost", model=self._model.name, reason=str(scheduler.broken))
        return EXIT_DEVICE_LOST

    def _hand_back_the_rest(self) -> None:
        """The device hangs. What is on it counts a crash when its lease expires; the rest goes back to the queue."""
        for attempt in self._leases.held():
            if not attempt.on_device and not attempt.is_lost:
                self._results.hand_back_now(attempt)

    def _on_event(self, payload: str) -> None:
        """A prediction changed. If it is ours and over, its drawing is dropped at the next step."""
        event = json.loads(payload)
        if "status" in event and PredictionStatus(event["status"]).is_terminal:
            self._leases.prediction_ended(event["id"], PredictionStatus(event["status"]))

    def _beat(self, conn: Connection) -> None:
        self._heartbeat.beat(conn)
        self._bells.beat(conn)

    def _leave(self) -> None:
        self._reports.stop()
        self._bells.stop()
        self._leases.stop()
        self._heartbeat.say_goodbye()
        self._pool.close()
        self.lifecycle.end()
        log.info("worker.left")
