"""What the worker asks of an engine: load, begin, step, finish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from storage.catalog import Model
from storage.errors import DarkroomError
from storage.parameters import Parameters

if TYPE_CHECKING:
    from PIL.Image import Image


class ModelNotLoaded(DarkroomError):
    """The weights can't be had or can't be loaded; the message says why and what to do."""


class DrawingFailed(DarkroomError):
    """This request can't be drawn; the message is for its client. The engine can draw the next one."""


class Drawing(Protocol):
    """A request that is being drawn."""

    @property
    def steps(self) -> int:
        """Denoising steps in all."""

    @property
    def steps_done(self) -> int:
        """Steps that `Engine.step` has taken so far."""


class Engine(Protocol):
    """One model on one device. One thread uses it."""

    @property
    def device(self) -> str:
        """Where it draws, as people say it: "cpu", "NVIDIA H100"."""

    def load(self) -> None:
        """Bring the weights into memory. Raises ModelNotLoaded."""

    def begin(self, parameters: Parameters) -> Drawing:
        """Encode the prompts and seed the latents. Raises DrawingFailed."""

    def step(self, drawings: Sequence[Drawing]) -> None:
        """Advance each drawing by one denoising step. Raises DrawingFailed."""

    def finish(self, drawing: Drawing) -> list[Image]:
        """Decode the images (RGB) of a drawing that has taken all its steps, in the order of their seeds."""


def make_engine(model: Model, *, device: str) -> Engine:
    """The engine for a model of the catalog; nothing is imported or loaded before `load`."""
    if model.engine == "blank":
        from worker.engine.blank import BlankEngine

        return BlankEngine(model.blank)
    from worker.engine.zimage import ZImageEngine

    return ZImageEngine(model, device=device)
