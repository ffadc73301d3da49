"""Any other text-to-image pipeline of diffusers, run to its end in batches of equal parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from storage.predictions.parameters import Parameters
from worker.engine.device_errors import told_apart
from worker.engine.device_memory import DeviceMemory
from worker.engine.devices import device_name
from worker.engine.interface import Drawing, DrawingFailed, Memory
from worker.engine.long_prompts import notes_on, quiet_diffusers
from worker.engine.pixels import images_of

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


@dataclass
class PipelineDrawing:
    """A request; its images are there when its steps are: (height, width, channels), in 0..1."""

    parameters: Parameters
    sampler: str = ""
    notes: tuple[str, ...] = ()
    steps_done: int = 0
    images: list[np.ndarray[Any, Any]] | None = None
    unsafe: list[bool] = field(default_factory=list)  # what the pipeline's safety checker has blackened

    @property
    def steps(self) -> int:
        return self.parameters.num_inference_steps


class PipelineEngine:
    """A pipeline whose loop can't be entered: what begins together ends together."""

    joins_midway = False

    def __init__(self, pipeline: Any, *, device: torch.device, attention: str = "") -> None:
        self._pipeline = pipeline
        self._device = device
        self._takes = inspect.signature(pipeline.__call__).parameters
        self._memory = DeviceMemory(device)
        for needed in ("prompt", "num_inference_steps", "callback_on_step_end"):
            if needed not in self._takes:
                raise ValueError(f"{type(pipeline).__name__} takes no {needed}, so it draws nothing from a text")

    @property
    def device(self) -> str:
        return device_name(self._device)

    def batch_key(self, parameters: Parameters) -> object:
        return parameters.width, parameters.height, parameters.num_inference_steps, parameters.guidance_scale

    def begin(self, parameters: Parameters) -> PipelineDrawing:
        texts = {"prompt": parameters.prompt, "negative prompt": parameters.negative_prompt}
        scheduler = getattr(self._pipeline, "scheduler", None)
        return PipelineDrawing(
            parameters,
            sampler="" if scheduler is None else type(scheduler).__name__,
            notes=notes_on(self._pipeline, self._takes, texts),
        )

    def step(self, drawings: Sequence[Drawing], after_each: Callable[[], None]) -> None:
        batch = [drawing for drawing in drawings if isinstance(drawing, PipelineDrawing)]
        stopped: list[BaseException] = []
        result = self._draw(batch, partial(_count_step, batch, after_each, stopped), stopped)
        images, unsafe = iter(result.images), iter(_unsafe_ones(result))
        for drawing in batch:
            drawing.images = [next(images) for _ in range(drawing.parameters.num_outputs)]
            drawing.unsafe = [next(unsafe) for _ in drawing.images]
            drawing.steps_done = drawing.steps

    @told_apart
    def _draw(
        self, batch: Sequence[PipelineDrawing], on_step: Callable[..., dict[str, Any]], stopped: list[BaseException]
    ) -> Any:
        self._memory.watch()
        try:
            with quiet_diffusers():
                return self._pipeline(**self._arguments(batch), callback_on_step_end=on_step)
        except ValueError as error:
            if stopped:
                raise
            raise DrawingFailed(f"{type(self._pipeline).__name__} refuses it: {error}") from error
        finally:
            self._pipeline.maybe_free_model_hooks()

    def decode(self, drawing: Drawing) -> Callable[[], list[Image]]:
        assert isinstance(drawing, PipelineDrawing)
        assert drawing.images is not None, "all of its steps are done"
        return partial(images_of, drawing.images, drawing.unsafe)

    def preview(self, drawing: Drawing) -> Callable[[], Image] | None:
        return None

    def memory(self) -> Memory | None:
        return self._memory.now()

    def _arguments(self, batch: Sequence[PipelineDrawing]) -> dict[str, Any]:
        """One prompt and one generator an image, seeded on the CPU so that it is the same on every device.

        Lists are made anew for every call: some pipelines change them in place.
        """
        first = batch[0].parameters
        each = [(drawing.parameters, index) for drawing in batch for index in range(drawing.parameters.num_outputs)]
        arguments: dict[str, Any] = {
            "prompt": [asked.prompt for asked, _ in each],
            "negative_prompt": [asked.negative_prompt for asked, _ in each],
            "generator": [torch.Generator("cpu").manual_seed(asked.seed_of(index)) for asked, index in each],
            "width": first.width,
            "height": first.height,
            "num_inference_steps": first.num_inference_steps,
            "guidance_scale": first.guidance_scale,
            "output_type": "np",  # "pil" makes black of NaN, and nobody could tell
        }
        return {name: value for name, value in arguments.items() if name in self._takes}


def _unsafe_ones(result: Any) -> list[bool]:
    """For each image whether the safety checker has blackened it; all False where the pipeline has no checker."""
    for name in ("nsfw_content_detected", "nsfw_detected"):  # DeepFloyd IF has the second
        if (found := getattr(result, name, None)) is not None:
            return [bool(flag) for flag in found]
    return [False] * len(result.images)


def _count_step(
    batch: Sequence[PipelineDrawing],
    after_each: Callable[[], None],
    stopped: list[BaseException],
    pipeline: Any,
    step: int,
    timestep: Any,
    tensors: dict[str, Any],
) -> dict[str, Any]:
    """diffusers' callback_on_step_end. It must return a dict; raising is what stops a pipeline without decoding."""
    for drawing in batch:
        # Some schedulers take a few steps more than they are asked for.
        drawing.steps_done = min(step + 1, drawing.steps)
    try:
        after_each()
    except BaseException as error:
        stopped.append(error)
        raise
    return {}
