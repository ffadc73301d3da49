"""The drawing loop: admit attempts, take one denoising step for all of them, decode those that are done.

It uses no database. The device never waits: predictions are claimed and prompts are encoded before a slot is free, and
everything after the decoding (image files, upload, commit) happens on other threads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from storage.predictions.parameters import Parameters
from storage.workers.step_costs import Load, load_of
from worker.attempts.attempt import Attempt
from worker.batching.admission import Admission, load_of_all
from worker.batching.failure_reasons import reason_of, too_large
from worker.batching.outcomes import Outcomes
from worker.batching.suspects import on_device
from worker.engine import DeviceLost, Engine, OutOfMemory

log = structlog.get_logger(__name__)

# A slot that becomes free within this time counts as free. It is longer than a claim and the encoding of a prompt take,
# and it is short, because another worker could draw what waits here.
CLAIM_AHEAD_S = 0.5
IDLE_WAIT_S = 0.5
# An attempt whose pictures take longer to come than this holds no slot, so that others are claimed. So many at most:
# while the bucket is away, no more should be taken from other workers.
SLOW_INPUT_S = 2.0
MAX_SLOW_INPUTS = 8

# Another process may still be moving its weights away.
WAKE_WITHIN_S = 20.0
WAKE_AGAIN_AFTER_S = 0.1

Clock = Callable[[], float]


class _BatchAborted(Exception):
    """No attempt in the batch is needed any more. Stops an engine that runs a batch to its end."""


class BatchScheduler:
    """Draws what is added. Each attempt ends once: drawn, failed, lost or unfinished (see Outcomes).

    Slots are counted in requests like `typical`, or like the largest one here. `on_free_slot` is called on the drawing
    thread whenever `free_slots` may have grown.
    """

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        outcomes: Outcomes,
        *,
        typical: Parameters,
        on_free_slot: Callable[[], None] = lambda: None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._outcomes = outcomes
        self._clock = clock
        self._typical_load = load_of(typical)
        self._added: deque[Attempt] = deque()
        self._waiting: list[Attempt] = []
        self._batch: list[Attempt] = []  # in the order in which they joined
        self._woken = threading.Event()
        self._leave_by: float | None = None
        self._closed = False
        self._stepped_at = 0.0
        self._slots = 1
        self._on_free_slot = on_free_slot
        self.device_free_bytes: int | None = None  # after the latest step; None: not counted
        self.broken: Exception | None = None
        self._rest_is_wanted = False
        self.is_resting = False  # the weights are in main memory

    # What other threads call.

    def add(self, attempt: Attempt) -> None:
        """Draw this attempt."""
        self._added.append(attempt)
        self._woken.set()

    def wake(self) -> None:
        """Look again at what waits: an attempt has become ready, or can't be drawn."""
        self._woken.set()

    def free_slots(self) -> int:
        """How many more predictions should be claimed now."""
        if self._leave_by is not None or self._closed:
            return 0
        waiting = list(self._waiting)
        slow = [attempt for attempt in waiting if not attempt.is_ready and attempt.without_progress_s() > SLOW_INPUT_S]
        return max(0, self._slots - len(self._added) - len(waiting) + min(len(slow), MAX_SLOW_INPUTS))

    @property
    def images(self) -> int:
        """How many are being drawn at this moment."""
        return sum(attempt.parameters.num_outputs for attempt in list(self._batch))

    def rest(self) -> None:
        """Free the device as soon as nothing is left to draw (see `is_resting`), until `wake_up` or an attempt comes.

        `on_free_slot` is called when the device is free.
        """
        self._rest_is_wanted = True
        self._woken.set()

    def wake_up(self) -> None:
        """Bring the weights back to the device, if they are away, and leave them there."""
        self._rest_is_wanted = False
        self._woken.set()

    def leave_by(self, moment: float) -> None:
        """End what has not begun, and at `moment` (of `time.monotonic`) the rest: `on_unfinished` is called for it."""
        self._leave_by = moment
        self._woken.set()

    def run(self) -> None:
        """Draw until everything has ended after `leave_by`, or until the device is lost (see `broken`)."""
        try:
            while not self._closed:
                if not self.turn():
                    self._woken.wait(IDLE_WAIT_S)
                    self._woken.clear()
        except Exception as error:  # DeviceLost, or a bug of ours: this process can draw nothing more
            log.exception("batch.broken")
            self.broken = error
        finally:
            self._closed = True
            self._on_free_slot()

    def unfinished(self) -> list[Attempt]:
        """After `run`: what was added too late, or could not be drawn because the device was lost.

        Attempts that were on the device at that moment are left out: one of them may be the cause.
        """
        undrawn = [*self._batch, *self._waiting, *self._added]
        return [attempt for attempt in undrawn if not attempt.on_device]

    # The loop, on the drawing thread.

    def turn(self) -> bool:
        """One round of the loop; False if there is nothing to do."""
        self._woken.clear()
        if self.is_resting and (self._added or not self._rest_is_wanted):
            self._wake_engine()
        while self._added:
            self._waiting.append(self._added.popleft())
        self._waiting.sort(key=lambda attempt: attempt.order)
        self._drop_lost()
        self._end_unfinished()
        self._end_failed()
        self._begin()
        self._admit()
        if self._batch:
            self._step(list(self._batch))
            self._decode()
        if not self.is_resting:
            self._count_free_slots()
        if self._rest_is_wanted and not self.is_resting and self._has_nothing():
            self._rest_engine()
        if self._leave_by is not None and self._has_nothing():
            self._closed = True
        return bool(self._batch or self._ready() or self._added)

    def _has_nothing(self) -> bool:
        return not (self._batch or self._waiting or self._added)

    def _rest_engine(self) -> None:
        self.is_resting = self._engine.rest(lambda: self._rest_is_wanted and not self._added and self._leave_by is None)
        if self.is_resting:
            memory = self._engine.memory()
            self.device_free_bytes = memory.free if memory else None
            log.info("engine.rests", device_free_bytes=self.device_free_bytes)
            self._on_free_slot()

    def _wake_engine(self) -> None:
        """Raises DeviceLost if the device stays full because another process has taken the memory."""
        began_at = self._clock()
        while True:
            try:
                self._engine.wake()
                break
            except OutOfMemory as error:
                if self._clock() - began_at > WAKE_WITHIN_S:
                    raise DeviceLost(f"the device has no memory for the weights any more: {error}") from error
                time.sleep(WAKE_AGAIN_AFTER_S)
        self.is_resting = False
        log.info("engine.woken", wake_s=round(self._clock() - began_at, 3))

    def _ready(self) -> list[Attempt]:
        """Those that wait for a slot, in their order. An attempt that waits for its pictures delays no other."""
        return [attempt for attempt in self._waiting if attempt.is_ready]

    def _drop_lost(self) -> None:
        for attempt in [*self._batch, *self._waiting]:
            if attempt.is_lost:
                self._remove(attempt)
                self._outcomes.on_lost(attempt)

    def _end_unfinished(self) -> None:
        if self._leave_by is None:
            return
        time_is_up = self._clock() >= self._leave_by
        for attempt in [*self._waiting, *self._batch]:
            if time_is_up or (attempt.steps_done == 0 and attempt not in self._batch):
                self._remove(attempt)
                self._outcomes.on_unfinished(attempt)

    def _end_failed(self) -> None:
        for attempt in list(self._waiting):
            if attempt.failure is not None:
                self._fail(attempt, attempt.failure)

    def _begin(self) -> None:
        """Encode the prompts of all that could join now. While a batch runs, encode one, so that it is ready."""
        ahead = 1 if self._batch else max(1, self._slots)
        for attempt in self._ready()[:ahead]:
            if attempt.drawing is None:
                self._begin_one(attempt)

    def _begin_one(self, attempt: Attempt) -> None:
        began_at = self._clock()
        try:
            with on_device([attempt], "encode_prompt"):
                attempt.drawing = self._engine.begin(attempt.parameters, attempt.pictures)
            attempt.progressed()
        except OutOfMemory:
            if not self._batch:
                self._fail(attempt, too_large(attempt, self._admission.costs))
        except DeviceLost:
            raise
        except Exception as error:
            self._fail(attempt, reason_of(error))
        finally:
            attempt.gpu_s += self._clock() - began_at

    def _admit(self) -> None:
        memory = self._engine.memory()
        if not self._engine.joins_midway:
            self._admit_batch()
            return
        for head in self._ready():
            if not self._admission.may_join(head, self._batch, memory):
                break
            if head.drawing is None:
                self._begin_one(head)
            if head.drawing is None:  # failed, or waits for memory
                break
            self._waiting.remove(head)
            self._batch.append(head)
        self._replace_longer_drawings()

    def _admit_batch(self) -> None:
        """For an engine that runs to the end: all that can share a batch with the first one, and fit."""
        ready = self._ready()
        if self._batch or not ready:
            return
        memory, key = self._engine.memory(), self._engine.batch_key(ready[0].parameters)
        for attempt in ready:
            if self._engine.batch_key(attempt.parameters) != key:
                continue
            if not self._admission.may_join(attempt, self._batch, memory):
                break
            if attempt.drawing is None:
                self._begin_one(attempt)
            if attempt.drawing is not None:
                self._waiting.remove(attempt)
                self._batch.append(attempt)

    def _replace_longer_drawings(self) -> None:
        for attempt in list(self._waiting):
            if attempt.drawing is None:
                continue
            longer = self._admission.may_replace(self._batch, attempt, self._engine.memory())
            if longer is None:
                continue
            log.info("batch.replaced", prediction_id=attempt.id, waits_now=longer.id)
            self._batch[self._batch.index(longer)] = attempt
            self._waiting.remove(attempt)
            self._waiting.append(longer)
            self._waiting.sort(key=lambda waiting: waiting.order)

    def _step(self, attempts: list[Attempt]) -> None:
        """Take one step together. If that fails, take it one by one: only those that break it fail."""
        drawings = [attempt.drawing for attempt in attempts if attempt.drawing is not None]
        for attempt in attempts:
            attempt.batch_size = max(attempt.batch_size, len(attempts))
        self._stepped_at = self._clock()
        try:
            with on_device(attempts, "denoise"):
                self._engine.step(drawings, lambda: self._after_step(attempts))
        except _BatchAborted:
            self._restart(attempts)
        except DeviceLost:
            raise
        except OutOfMemory:
            self._shrink_batch(attempts)
        except Exception as error:
            if len(attempts) == 1:
                self._fail(attempts[0], reason_of(error))
                return
            log.warning("batch.step_failed", drawings=len(attempts), reason=reason_of(error))
            if not self._engine.joins_midway:
                self._restart(attempts, at_once=True)
            for attempt in attempts:
                if attempt in self._batch and attempt.drawing is not None and not attempt.is_lost:
                    self._step([attempt])

    def _after_step(self, attempts: list[Attempt]) -> None:
        now = self._clock()
        elapsed_s, self._stepped_at = now - self._stepped_at, now
        memory, load = self._engine.memory(), load_of_all(attempts)
        self.device_free_bytes = memory.free if memory else None
        self._admission.costs.observe(load, elapsed_s, memory.peak if memory else None)
        for waiting in self._ready():
            waiting.progressed()
            for attempt in attempts:
                waiting.delay_caused_by_s[attempt.id] = waiting.delay_caused_by_s.get(attempt.id, 0.0) + elapsed_s
        for attempt in attempts:
            attempt.progressed()
            attempt.gpu_s += elapsed_s * load_of(attempt.parameters).pixels / load.pixels
            attempt.image_steps += attempt.parameters.num_outputs
            if not attempt.is_lost:
                assert attempt.drawing is not None
                preview = self._engine.preview(attempt.drawing) if attempt.parameters.previews else None
                self._outcomes.on_step(attempt, preview)
        time_is_up = self._leave_by is not None and now >= self._leave_by
        if not self._engine.joins_midway and (time_is_up or all(attempt.is_lost for attempt in attempts)):
            raise _BatchAborted

    def _restart(self, attempts: Sequence[Attempt], *, at_once: bool = False) -> None:
        """Draw them from the beginning: the same seed gives the same image. `at_once`: without leaving the batch."""
        for attempt in attempts:
            if attempt not in self._batch:
                continue
            attempt.drawing = None
            if at_once:
                self._begin_one(attempt)
            if attempt.drawing is None and attempt in self._batch:
                self._batch.remove(attempt)
                self._waiting.append(attempt)
        self._waiting.sort(key=lambda attempt: attempt.order)

    def _shrink_batch(self, attempts: Sequence[Attempt]) -> None:
        """Out of memory: the newest drawing waits and restarts, the others go on. A drawing that is alone fails."""
        load = load_of_all(attempts)
        log.warning("batch.out_of_memory", drawings=len(attempts), images=load.images, pixels=load.pixels)
        if len(attempts) == 1 and len(self._batch) == 1:
            self._fail(attempts[0], too_large(attempts[0], self._admission.costs))
            return
        self._admission.ran_out_of_memory(load)
        if self._engine.joins_midway:
            self._restart([max(attempts, key=self._batch.index)])
        else:
            self._restart(attempts)

    def _decode(self) -> None:
        """Decode the drawings that have taken all their steps."""
        for attempt in list(self._batch):
            drawing = attempt.drawing
            if drawing is None or drawing.steps_done < drawing.steps or attempt.is_lost:
                continue
            began_at = self._clock()
            try:
                with on_device([attempt], "decode"):
                    fetch_images = self._engine.decode(drawing)
            except OutOfMemory:
                self._fail(attempt, too_large(attempt, self._admission.costs))
            except DeviceLost:
                raise
            except Exception as error:
                self._fail(attempt, reason_of(error))
            else:
                attempt.gpu_s += self._clock() - began_at
                self._remove(attempt)
                self._outcomes.on_drawn(attempt, fetch_images)

    def _count_free_slots(self) -> None:
        step_s = self._admission.costs.estimate(load_of_all(self._batch)) if self._batch else None
        staying = [
            attempt
            for attempt in self._batch
            if step_s is None or (attempt.steps - attempt.steps_done) * step_s > CLAIM_AHEAD_S
        ]
        each = self._load_of_next()
        if self._engine.joins_midway:
            slots = self._admission.slots_for(each, staying, self._engine.memory())
        else:
            slots = 0 if staying else self._admission.slots_for(each, [], self._engine.memory())
        self._slots = slots
        if self.free_slots() > 0:
            self._on_free_slot()

    def _load_of_next(self) -> Load:
        """What the next prediction is taken to be: like a typical one, or like the largest that is here.

        Where large pictures are drawn one at a time, a slot counted for small ones would take work that another
        worker could begin at once.
        """
        here = [load_of(attempt.parameters) for attempt in (*self._batch, *self._waiting)]
        return max([self._typical_load, *here], key=lambda load: load.pixels)

    def _fail(self, attempt: Attempt, reason: str) -> None:
        self._remove(attempt)
        self._outcomes.on_failed(attempt, reason)

    def _remove(self, attempt: Attempt) -> None:
        """Take it out of the scheduler; the caller reports its outcome."""
        if attempt in self._batch:
            self._batch.remove(attempt)
        if attempt in self._waiting:
            self._waiting.remove(attempt)
        attempt.drawing = None
