"""What the scheduler needs from an engine: begin, step, decode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from storage.errors import DarkroomError
from storage.predictions.parameters import Parameters

if TYPE_CHECKING:
    from PIL.Image import Image


class ModelNotLoaded(DarkroomError):
    """The weights can't be found or loaded; the message says why and what to do."""


class DrawingFailed(DarkroomError):
    """This request can't be drawn; the message is for the client. The engine can draw others."""


class BlankImages(DrawingFailed):
    """Some of a request's images are blank, each for a reason of its own; `images` are all of them, blank ones too."""

    def __init__(self, reasons: Mapping[int, str], images: list[Image]) -> None:
        each = [
            f"{'The image' if len(images) == 1 else f'Image {index + 1} of {len(images)}'} came out blank: {reason}"
            for index, reason in sorted(reasons.items())
        ]
        super().__init__(" ".join(each))
        self.images = images


class OutOfMemory(DarkroomError):
    """The device has not enough memory for these drawings together. What the failed call took is free again."""


class DeviceLost(DarkroomError):
    """The device fails for every drawing. Only a new process can use it again."""


@dataclass(frozen=True)
class Pictures:
    """A start image (RGB) and a mask of the same size (L): white is drawn again, black is kept, gray is mixed.

    `more`: the second and further images, for models that look at several, each of a size of its own.
    """

    image: Image
    mask: Image | None = None
    more: tuple[Image, ...] = ()


class Drawing(Protocol):
    """A request that is being drawn."""

    @property
    def steps(self) -> int:
        """The number of denoising steps."""

    @property
    def steps_done(self) -> int:
        """How many of them `Engine.step` has taken so far."""

    @property
    def sampler(self) -> str:
        """The name of the scheduler, for the metadata of the files; empty if there is none."""

    @property
    def notes(self) -> Sequence[str]:
        """What its client should know, such as a prompt that was cut; lines for the logs."""


@dataclass(frozen=True)
class Memory:
    """Memory of the device, in bytes."""

    free: int
    peak: int  # of the latest step or decoding, without the weights


class Engine(Protocol):
    """One model on one device. One thread uses it, except for the functions that `decode` and `preview` return."""

    @property
    def device(self) -> str:
        """What people call the device: "cpu", "NVIDIA H100"."""

    @property
    def joins_midway(self) -> bool:
        """Whether a drawing may join a batch that has begun.

        If not, `step` runs a batch to its end, and all its drawings must have the same `batch_key`.
        """

    @property
    def takes(self) -> Collection[str]:
        """Which pictures requests may give, of "image" and "mask"."""

    @property
    def max_images(self) -> int:
        """How many images one request may give; above 1 it looks at them, and doesn't start from one."""

    def batch_key(self, parameters: Parameters) -> object:
        """Requests with equal keys can be drawn in one batch."""

    def begin(self, parameters: Parameters, pictures: Pictures | None = None) -> Drawing:
        """Encode the prompts and the start image, and seed the latents. Raises DrawingFailed, OutOfMemory.

        `pictures` are those that `parameters.image` and `parameters.mask` name, of any size. The files of all
        `parameters.loras` are there.
        """

    def step(self, drawings: Sequence[Drawing], after_each: Callable[[], None]) -> None:
        """Advance each drawing by one denoising step, or none of them: it raises before it changes any.

        An engine without `joins_midway` takes all steps. `after_each` is called after every step, when the device has
        finished it; if it raises, the run ends. Raises DrawingFailed, OutOfMemory, DeviceLost.
        """

    def decode(self, drawing: Drawing) -> Callable[[], list[Image]]:
        """Decode a drawing that has taken all its steps.

        The returned function waits for the pixels and returns the images (RGB), in the order of their seeds. Another
        thread may call it. It raises BlankImages. Raises OutOfMemory, DeviceLost.
        """

    def preview(self, drawing: Drawing) -> Callable[[], Image] | None:
        """Return a function that makes a preview of the first image, about an eighth of its size; None: no preview."""

    def memory(self) -> Memory | None:
        """The device's memory; None if it isn't measured."""

    def rest(self, goes_on: Callable[[], bool]) -> bool:
        """Free the device: the weights go to main memory. False if `goes_on` said no meanwhile; then it can still draw.

        Call it only if `DeviceSettings.can_rest`, and only while nothing is drawn.
        """

    def wake(self) -> None:
        """Bring the weights back after `rest`. Raises OutOfMemory (try again later), DeviceLost."""
