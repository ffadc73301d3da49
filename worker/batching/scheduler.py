"""The drawing loop: admit, one denoising step for every drawing, finish those that are done. It knows no database.

The device waits for nobody: claims are taken in and prompts are encoded before a place is free, and whatever
follows a drawing (encoding, upload, commit) happens on other threads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from storage.predictions.parameters import Parameters
from worker.batching.admission import Admission, load_of_all
from worker.batching.commission import Commission
from worker.batching.step_costs import load_of
from worker.engine import DeviceLost, DrawingFailed, Engine, OutOfMemory

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

# A place that is free within this time is claimed for now: longer than a claim and the encoding of a prompt take,
# and short, because what waits here could be drawn by another worker.
CLAIM_AHEAD_S = 0.5
IDLE_WAIT_S = 0.5

Clock = Callable[[], float]


class Outcomes(Protocol):
    """Who hears what becomes of a commission. Called on the drawing thread, so each returns at once."""

    def stepped(self, commission: Commission, preview: Callable[[], Image] | None) -> None: ...

    def drawn(self, commission: Commission, fetch_images: Callable[[], list[Image]]) -> None: ...

    def failed(self, commission: Commission, reason: str) -> None: ...

    def dropped(self, commission: Commission) -> None:
        """Its claim is lost: somebody else decides about it."""

    def returned(self, commission: Commission) -> None:
        """It is not drawn here; another worker may."""


class _Abandoned(Exception):
    """Nobody waits for any of the drawings in the step."""


class BatchScheduler:
    """Every commission that is offered ends once: drawn, failed, dropped or returned.

    `typical` is what most requests ask for: places are counted by it. `on_free_slot` is called on the drawing thread
    where `free_slots` may have grown.
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
        self._like = load_of(typical)
        self._added: deque[Commission] = deque()
        self._waiting: list[Commission] = []
        self._batch: list[Commission] = []  # in the order in which they joined
        self._woken = threading.Event()
        self._leave_by: float | None = None
        self._closed = False
        self._stepped_at = 0.0
        self._free_slots = 1
        self._on_hungry = on_free_slot
        self.broken: Exception | None = None

    # What other threads call.

    def add(self, commission: Commission) -> None:
        """Have it drawn."""
        self._added.append(commission)
        self._woken.set()

    def free_slots(self) -> int:
        """How many more commissions should be claimed now."""
        if self._leave_by is not None or self._closed:
            return 0
        return max(0, self._free_slots - len(self._added) - len(self._waiting))

    def leave_by(self, moment: float) -> None:
        """Return what has not begun, go on with the rest until then (of `time.monotonic`), return what is left."""
        self._leave_by = moment
        self._woken.set()

    def run(self) -> None:
        """Draw until everything has ended after `leave_by`, or the device is lost (`broken` says so)."""
        try:
            while not self._closed:
                if not self.turn():
                    self._woken.wait(IDLE_WAIT_S)
                    self._woken.clear()
        except Exception as error:  # DeviceLost, or a fault of our own: nothing more can be drawn here
            log.exception("batch.broken")
            self.broken = error
        finally:
            self._closed = True
            self._on_hungry()

    def unfinished(self) -> list[Commission]:
        """After `run`: what was offered too late, or could not be drawn because the device was lost.

        What was on the device then is not among them: it may be why.
        """
        undrawn = [*self._batch, *self._waiting, *self._added]
        return [commission for commission in undrawn if not commission.held.on_device]

    # The loop, on the drawing thread.

    def turn(self) -> bool:
        """One round of the loop; False where there is nothing to do."""
        self._woken.clear()
        while self._added:
            self._waiting.append(self._added.popleft())
        self._waiting.sort(key=lambda commission: commission.order)
        self._drop_lost()
        self._return_unfinished()
        self._begin()
        self._admit()
        if self._batch:
            self._step(list(self._batch))
            self._finish()
        self._count_free_slots()
        if self._leave_by is not None and not (self._batch or self._waiting or self._added):
            self._closed = True
        return bool(self._batch or self._waiting or self._added)

    def _drop_lost(self) -> None:
        for commission in [*self._batch, *self._waiting]:
            if commission.held.is_lost:
                self._end(commission)
                self._outcomes.dropped(commission)

    def _return_unfinished(self) -> None:
        if self._leave_by is None:
            return
        time_is_up = self._clock() >= self._leave_by
        for commission in [*self._waiting, *self._batch]:
            if time_is_up or (commission.steps_done == 0 and commission not in self._batch):
                self._end(commission)
                self._outcomes.returned(commission)

    def _begin(self) -> None:
        """Encode the prompts of all that could join now, else of one: it is ready when a place is free."""
        ahead = 1 if self._batch else max(1, self._free_slots)
        for commission in self._waiting[:ahead]:
            if commission.drawing is None:
                self._begin_one(commission)

    def _begin_one(self, commission: Commission) -> None:
        try:
            with _on_device([commission]):
                commission.drawing = self._engine.begin(commission.parameters)
            commission.held.progressed()
        except OutOfMemory:
            if not self._batch:
                self._fail(commission, self._too_large(commission))
        except DeviceLost:
            raise
        except Exception as error:
            self._fail(commission, _reason(error))

    def _admit(self) -> None:
        memory = self._engine.memory()
        if not self._engine.joins_midway:
            self._admit_batch()
            return
        while self._waiting:
            head = self._waiting[0]
            if not self._admission.may_join(head, self._batch, memory):
                break
            if head.drawing is None:
                self._begin_one(head)
            if head.drawing is None:  # failed, or it waits for memory
                break
            self._waiting.remove(head)
            self._batch.append(head)
        self._replace_longer_drawings()

    def _admit_batch(self) -> None:
        """For an engine that runs to the end: all that go with the first one, and fit beside it."""
        if self._batch or not self._waiting:
            return
        memory, key = self._engine.memory(), self._engine.batch_key(self._waiting[0].parameters)
        for commission in list(self._waiting):
            if self._engine.batch_key(commission.parameters) != key:
                continue
            if not self._admission.may_join(commission, self._batch, memory):
                break
            if commission.drawing is None:
                self._begin_one(commission)
            if commission.drawing is not None:
                self._waiting.remove(commission)
                self._batch.append(commission)

    def _replace_longer_drawings(self) -> None:
        for commission in list(self._waiting):
            if commission.drawing is None:
                continue
            longer = self._admission.may_replace(self._batch, commission, self._engine.memory())
            if longer is None:
                continue
            log.info("batch.replaced", prediction_id=commission.id, waits_now=longer.id)
            self._batch[self._batch.index(longer)] = commission
            self._waiting.remove(commission)
            self._waiting.append(longer)
            self._waiting.sort(key=lambda waiting: waiting.order)

    def _step(self, commissions: list[Commission]) -> None:
        """One step together. Where that breaks, one each alone: only those that broke it end."""
        drawings = [commission.drawing for commission in commissions if commission.drawing is not None]
        for commission in commissions:
            commission.batch_size = max(commission.batch_size, len(commissions))
        self._stepped_at = self._clock()
        try:
            with _on_device(commissions):
                self._engine.step(drawings, lambda: self._after_step(commissions))
        except _Abandoned:
            self._restart(commissions)
        except DeviceLost:
            raise
        except OutOfMemory:
            self._shrink_batch(commissions)
        except Exception as error:
            if len(commissions) == 1:
                self._fail(commissions[0], _reason(error))
                return
            log.warning("batch.step_failed", drawings=len(commissions), reason=_reason(error))
            if not self._engine.joins_midway:
                self._restart(commissions, keep=True)
            for commission in commissions:
                if commission in self._batch and commission.drawing is not None and not commission.held.is_lost:
                    self._step([commission])

    def _after_step(self, commissions: list[Commission]) -> None:
        now = self._clock()
        elapsed_s, self._stepped_at = now - self._stepped_at, now
        memory = self._engine.memory()
        self._admission.costs.observe(load_of_all(commissions), elapsed_s, memory.peak if memory else None)
        for waiting in self._waiting:
            waiting.held.progressed()
            for commission in commissions:
                waiting.delay_caused_by_s[commission.id] = waiting.delay_caused_by_s.get(commission.id, 0.0) + elapsed_s
        for commission in commissions:
            commission.held.progressed()
            if not commission.held.is_lost:
                assert commission.drawing is not None
                preview = self._engine.preview(commission.drawing) if commission.parameters.previews else None
                self._outcomes.stepped(commission, preview)
        time_is_up = self._leave_by is not None and now >= self._leave_by
        if not self._engine.joins_midway and (time_is_up or all(commission.held.is_lost for commission in commissions)):
            raise _Abandoned

    def _restart(self, commissions: Sequence[Commission], *, keep: bool = False) -> None:
        """Have them begin anew: a seed gives the same picture again. `keep` begins them at once, in the batch."""
        for commission in commissions:
            if commission not in self._batch:
                continue
            commission.drawing = None
            if keep:
                self._begin_one(commission)
            if commission.drawing is None and commission in self._batch:
                self._batch.remove(commission)
                self._waiting.append(commission)
        self._waiting.sort(key=lambda commission: commission.order)

    def _shrink_batch(self, commissions: Sequence[Commission]) -> None:
        """Out of memory: the newest drawing waits and begins anew, the others go on; alone, it fails."""
        load = load_of_all(commissions)
        log.warning("batch.out_of_memory", drawings=len(commissions), images=load.images, pixels=load.pixels)
        if len(commissions) == 1 and len(self._batch) == 1:
            self._fail(commissions[0], self._too_large(commissions[0]))
            return
        self._admission.ran_out_of_memory(load)
        if self._engine.joins_midway:
            self._restart([max(commissions, key=self._batch.index)])
        else:
            self._restart(commissions)

    def _finish(self) -> None:
        for commission in list(self._batch):
            drawing = commission.drawing
            if drawing is None or drawing.steps_done < drawing.steps or commission.held.is_lost:
                continue
            try:
                with _on_device([commission]):
                    fetch_images = self._engine.finish(drawing)
            except OutOfMemory:
                self._fail(commission, self._too_large(commission))
            except DeviceLost:
                raise
            except Exception as error:
                self._fail(commission, _reason(error))
            else:
                self._end(commission)
                self._outcomes.drawn(commission, fetch_images)

    def _count_free_slots(self) -> None:
        step_s = self._admission.costs.estimate(load_of_all(self._batch)) if self._batch else None
        staying = [
            commission
            for commission in self._batch
            if step_s is None or (commission.steps - commission.steps_done) * step_s > CLAIM_AHEAD_S
        ]
        if self._engine.joins_midway:
            places = self._admission.slots_for(staying, self._like, self._engine.memory())
        else:
            places = 0 if staying else self._admission.slots_for([], self._like, self._engine.memory())
        self._free_slots = places
        if self.free_slots() > 0:
            self._on_hungry()

    def _too_large(self, commission: Commission) -> str:
        asked = commission.parameters
        fits = self._admission.costs.largest_image_alone(load_of(asked))
        size = f"{asked.width}x{asked.height}"
        if asked.num_outputs > 1:
            size = f"{asked.num_outputs} of {size}"
        advice = (
            f"the largest that was drawn here so far has {fits.pixels // fits.images} pixels ({fits.images} at a time)"
            if fits
            else "ask for a smaller size or fewer num_outputs"
        )
        return f"The device has not enough memory for {size}: {advice}."

    def _fail(self, commission: Commission, reason: str) -> None:
        self._end(commission)
        self._outcomes.failed(commission, reason)

    def _end(self, commission: Commission) -> None:
        """Forget it; whoever calls says what became of it."""
        if commission in self._batch:
            self._batch.remove(commission)
        if commission in self._waiting:
            self._waiting.remove(commission)
        commission.drawing = None


@contextmanager
def _on_device(commissions: Sequence[Commission]) -> Iterator[None]:
    """If the device is lost or hangs meanwhile, these are suspect: they are drawn alone the next time."""
    for commission in commissions:
        commission.held.on_device = True
    try:
        yield
    except DeviceLost:
        raise
    except BaseException:
        _off_device(commissions)
        raise
    _off_device(commissions)


def _off_device(commissions: Sequence[Commission]) -> None:
    for commission in commissions:
        commission.held.on_device = False


def _reason(error: Exception) -> str:
    if isinstance(error, DrawingFailed):
        return str(error)
    log.error("batch.drawing_failed", exc_info=error)
    return f"Drawing failed: {type(error).__name__}: {error}"
