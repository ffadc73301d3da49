"""What the scheduler asks of an engine: begin, step, finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from storage.errors import DarkroomError
from storage.predictions.parameters import Parameters

if TYPE_CHECKING:
    from PIL.Image import Image


class ModelNotLoaded(DarkroomError):
    """The weights can't be had or can't be loaded; the message says why and what to do."""


class DrawingFailed(DarkroomError):
    """This request can't be drawn; the message is for its client. The engine can draw the next one."""


class OutOfMemory(DarkroomError):
    """The device has no memory left for these drawings together. What was taken is free again."""


class DeviceLost(DarkroomError):
    """The device answers nothing any more, whatever is drawn: only a new process can go on."""


class Drawing(Protocol):
    """A request that is being drawn."""

    @property
    def steps(self) -> int:
        """Denoising steps in all."""

    @property
    def steps_done(self) -> int:
        """Steps that `Engine.step` has taken so far."""


@dataclass(frozen=True)
class Memory:
    """Of the device, in bytes."""

    free: int
    peak: int  # the most that the latest step or decoding had in use beyond what lies there anyway


class Engine(Protocol):
    """One model on one device. One thread uses it, but for what `finish` and `preview` return."""

    @property
    def device(self) -> str:
        """Where it draws, as people say it: "cpu", "NVIDIA H100"."""

    @property
    def joins_midway(self) -> bool:
        """Whether a drawing may join others that have begun.

        Where not, `step` runs a batch to its end, and all of it must have the same `batch_key`.
        """

    def batch_key(self, parameters: Parameters) -> object:
        """Requests with equal keys may be drawn together."""

    def begin(self, parameters: Parameters) -> Drawing:
        """Encode the prompts and seed the latents. Raises DrawingFailed, OutOfMemory."""

    def step(self, drawings: Sequence[Drawing], after_each: Callable[[], None]) -> None:
        """Advance each drawing by one denoising step, or none of them: it raises before it changes any.

        An engine that doesn't join midway takes all steps. `after_each` is called after every step, when the device
        is done with it; what it raises ends the drawings. Raises DrawingFailed, OutOfMemory, DeviceLost.
        """

    def decode(self, drawing: Drawing) -> Callable[[], list[Image]]:
        """Decode a drawing that has taken all its steps.

        The function that is returned waits for the pixels and gives the images (RGB), in the order of their seeds;
        another thread may call it. Raises OutOfMemory, DeviceLost.
        """

    def preview(self, drawing: Drawing) -> Callable[[], Image] | None:
        """What the first image looks like so far, about an eighth of its size; None where it can't be told."""

    def memory(self) -> Memory | None:
        """What the device has left; None where nobody keeps count."""
