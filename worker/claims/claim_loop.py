"""Claims predictions while the scheduler has free slots, and ends when there has been no work for long enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.postgres.database import Connection
from storage.predictions.claim import Claim, NeedsEmptyWorker
from storage.predictions.render import Renderer
from storage.predictions.repeats.result_cache import reuse_result
from storage.s3.bucket import Bucket
from storage.workers.registry import WorkerState
from worker.attempts.attempt import Attempt
from worker.attempts.inputs import Inputs
from worker.batching.saved_step_costs import SavedStepCosts
from worker.batching.scheduler import BatchScheduler
from worker.claims.bell_listener import BellListener, CanNotAsk
from worker.claims.leases import Leases
from worker.cold_start import ColdStart
from worker.heartbeat import Heartbeat
from worker.publish.results import Results
from worker.standby import Standby

log = structlog.get_logger(__name__)


# How often a worker that has been idle for long enough asks whether it may leave.
ASK_TO_LEAVE_EVERY_S = 5.0


class Asked(Enum):
    """The answer to "is there work?". Only NOTHING counts as idle."""

    CLAIMED = auto()
    NOTHING = auto()
    NOT_ASKED = auto()  # we hold enough, the next prediction has to wait, or Postgres is unreachable


class ClaimLoop:
    """Fills the scheduler's free slots. Runs on the worker's main thread."""

    def __init__(
        self,
        pool: ConnectionPool[Connection],
        renderer: Renderer,
        bucket: Bucket,
        inputs: Inputs,
        bells: BellListener,
        leases: Leases,
        results: Results,
        heartbeat: Heartbeat,
        *,
        poll_s: float,
        idle_exit_s: float | None,
        may_leave: Callable[[], bool] = lambda: True,
        standby: Standby | None = None,
    ) -> None:
        """`poll_s`: how often to look for work if no bell rings. `idle_exit_s`: see `run`; None: never.

        `may_leave`: asked after `idle_exit_s` without work; no: it stays, and asks again later. `standby`: when it
        stands by.
        """
        self._pool = pool
        self._renderer = renderer
        self._bucket = bucket
        self._inputs = inputs
        self._bells = bells
        self._leases = leases
        self._results = results
        self._heartbeat = heartbeat
        self._poll_s = poll_s
        self._idle_exit_s = idle_exit_s
        self._may_leave = may_leave
        self._standby = standby or Standby()
        self._ask_to_leave_at = 0.0
        self._loaded: tuple[float, float] | None = None
        self._cold_start: ColdStart | None = None

    def run(
        self,
        scheduler: BatchScheduler,
        saved_costs: SavedStepCosts,
        *,
        goes_on: Callable[[], bool],
        loaded: tuple[float, float] | None = None,
        cold_start: ColdStart | None = None,
    ) -> None:
        """Claim until `goes_on` says no, the device is lost, or there was no work for `idle_exit_s`.

        `loaded`: when the worker began and ended to load its model, in seconds since the epoch, for traces.
        `cold_start` goes with the first attempt.
        """
        self._loaded = loaded
        self._cold_start = cold_start
        idle_since = time.monotonic()
        while goes_on() and scheduler.broken is None:
            if self._standby.is_ordered:
                if self._stand_by(scheduler, goes_on, idle_since):
                    return
                idle_since = time.monotonic()
                continue
            asked = self._claim_one(scheduler)
            holds_some = bool(self._leases.held())
            is_idle = asked is Asked.NOTHING and not holds_some
            if not is_idle:
                idle_since = time.monotonic()
            self._tell("drawing" if holds_some or asked is Asked.CLAIMED else "idle")
            if asked is Asked.CLAIMED:
                scheduler.wake_up()
                continue
            idle_s = time.monotonic() - idle_since
            if is_idle and self._leaves_after(idle_s):
                return
            if is_idle and self._standby.after_s is not None and idle_s >= self._standby.after_s:
                scheduler.rest()
            saved_costs.save_if_due()
            self._bells.wait(self._until_idle_for_long(idle_s) if is_idle else self._poll_s)

    def _tell(self, state: WorkerState) -> None:
        """The next beat writes it. A host that orders idle workers to stand by must not learn it so late."""
        if self._standby.host_counts_idle_time and state != self._heartbeat.state:
            self._heartbeat.say(state)
        else:
            self._heartbeat.note(state)

    def _until_idle_for_long(self, idle_s: float) -> float:
        """How long to wait for a bell: not beyond the moment at which this worker is to leave or to stand by."""
        limits = (self._idle_exit_s, self._standby.after_s)
        return min([self._poll_s, *(limit - idle_s for limit in limits if limit is not None and limit > idle_s)])

    def _leaves_after(self, idle_s: float) -> bool:
        now = time.monotonic()
        if self._idle_exit_s is None or idle_s < self._idle_exit_s or now < self._ask_to_leave_at:
            return False
        self._ask_to_leave_at = now + ASK_TO_LEAVE_EVERY_S
        if not self._may_leave():
            return False
        log.info("worker.idle_exit", idle_exit_s=self._idle_exit_s)
        return True

    def _stand_by(self, scheduler: BatchScheduler, goes_on: Callable[[], bool], idle_since: float) -> bool:
        """Finish what is held, free the device, and claim nothing until the host orders to wake up.

        True: it has stood by for so long that it is to leave.
        """
        scheduler.rest()
        while self._standby.is_ordered and goes_on() and scheduler.broken is None:
            self._bells.forget_bells()
            if self._leases.held():
                idle_since = time.monotonic()
                self._heartbeat.note("drawing")
            elif scheduler.is_resting:
                if self._heartbeat.state != "standby":
                    self._heartbeat.say("standby")
                if self._leaves_after(time.monotonic() - idle_since):
                    return True
            if self._standby.is_ordered:  # an order that came since `forget_bells` ends the wait
                self._bells.wait(self._poll_s)
        if not self._standby.is_ordered:
            scheduler.wake_up()
            if self._heartbeat.state == "standby":
                self._heartbeat.say("idle")
        return False

    def _claim_one(self, scheduler: BatchScheduler) -> Asked:
        """Claim one more prediction, if the scheduler has a slot for it and there is one."""
        self._bells.forget_bells()  # before asking: whatever happens from here on ends the wait
        held = self._leases.held()
        if scheduler.free_slots() == 0 or self._results.is_full or any(attempt.must_be_alone for attempt in held):
            return Asked.NOT_ASKED
        try:
            claim = self._bells.take(holds_others=bool(held))
        except (NeedsEmptyWorker, CanNotAsk):  # the next one must be drawn alone: it waits until we hold nothing
            return Asked.NOT_ASKED
        if claim is None:
            return Asked.NOTHING
        self._start_attempt(claim, scheduler)
        return Asked.CLAIMED

    def _start_attempt(self, claim: Claim, scheduler: BatchScheduler) -> None:
        attempt = self._leases.hold(claim)
        log.info("prediction.claimed", **attempt.names)
        attempt.spans.loaded = self._loaded
        if self._reuse_result(attempt):
            attempt.spans.send("reused")
            self._leases.release(attempt)
            return
        try:
            attempt.parameters  # noqa: B018 - read here, so that no later code has to expect a TypeError
        except TypeError as error:
            self._results.on_failed(attempt, f"Its parameters can't be read by this release: {error}")
            return
        if self._cold_start is not None:
            self._cold_start.end_of("claim")
            attempt.cold_start, self._cold_start = self._cold_start, None
        scheduler.add(attempt)
        if not attempt.is_ready:
            self._inputs.fetch(attempt, on_ready=scheduler.wake)

    def _reuse_result(self, attempt: Attempt) -> bool:
        """Finish it with the images of an equal prediction that succeeded after this one was submitted."""
        claim = attempt.claim
        if not claim.may_be_drawn_before:
            return False
        try:
            with self._pool.connection() as conn:
                if reuse_result(conn, self._renderer, self._bucket, claim.prediction, claim_id=claim.claim_id) is None:
                    return False
        except psycopg.OperationalError:
            return False
        log.info("prediction.reused", **attempt.names)
        return True
