"""Any other text-to-image pipeline of diffusers, run to its end in batches of equal parameters.

A request with a start image, or with a mask too, is drawn by the image-to-image or inpainting pipeline that diffusers
makes from the same parts: no weights are copied. Some of these look at the images and draw from noise alone
(`worker.engine.input_images.reference_images`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from storage.predictions.parameters import Parameters
from worker.engine.device.choose import device_name
from worker.engine.device.copy_images import images_of
from worker.engine.device.errors import told_apart
from worker.engine.device.memory import DeviceMemory
from worker.engine.device.standby import Weights
from worker.engine.input_images.pictures import fit, keeping_the_rest, require_strength, strength_of_a_step
from worker.engine.input_images.reference_images import (
    accepted_by,
    look_alike,
    looked_at,
    looks_at_images,
    most_images,
    refuse_without_image,
)
from worker.engine.interface import Drawing, DrawingFailed, Memory, ModelNotLoaded, Pictures
from worker.engine.loras import Loras
from worker.engine.prompts.guidance import guidance_arguments, guidance_notes
from worker.engine.prompts.long_prompts import notes_on, quiet_diffusers
from worker.engine.step_bar import watching_steps

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


TEXT = "text"  # a request that gives no pictures


@dataclass
class PipelineDrawing:
    """A request; its images are there when its steps are: (height, width, channels), in 0..1."""

    parameters: Parameters
    steps: int  # with a start image the pipeline takes fewer than were asked for, and says so at the first one
    sampler: str = ""
    notes: tuple[str, ...] = ()
    pictures: Pictures | None = None  # of the size that is drawn
    steps_done: int = 0
    images: list[np.ndarray[Any, Any]] | None = None
    unsafe: list[bool] = field(default_factory=list)  # what the pipeline's safety checker has blackened

    @property
    def kind(self) -> str:
        return _kind_of(self.parameters)


class PipelineEngine:
    """A pipeline whose loop can't be entered: what begins together ends together."""

    joins_midway = False

    def __init__(
        self,
        pipeline: Any,
        *,
        device: torch.device,
        attention: str = "",
        loras: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """`loras`: name → file."""
        self._pipeline = pipeline
        self._loras = Loras(pipeline, loras)
        self._device = device
        self._weights = Weights(pipeline, device)
        self._memory = DeviceMemory(device)
        accepted = accepted_by(pipeline)
        for needed in ("prompt", "num_inference_steps"):
            if needed not in accepted:
                raise ModelNotLoaded(
                    f"a {type(pipeline).__name__} takes no {needed}: it draws nothing from a text alone"
                )

    @property
    def device(self) -> str:
        return device_name(self._device)

    @property
    def takes(self) -> Collection[str]:
        return self._pipelines.keys() - {TEXT}

    @property
    def max_images(self) -> int:
        return most_images(self._pipelines["image"]) if "image" in self._pipelines else 1

    @cached_property
    def _pipelines(self) -> dict[str, Any]:
        """By what a request gives. Not made before it is needed: most models are only given texts."""
        return {TEXT: self._pipeline} | made_from(self._pipeline)

    def _pipeline_for(self, kind: str) -> Any:
        return self._pipeline if kind == TEXT else self._pipelines[kind]

    def _looks(self, kind: str) -> bool:
        return kind == "image" and looks_at_images(self._pipeline_for(kind))

    def batch_key(self, parameters: Parameters) -> object:
        size_and_steps = parameters.width, parameters.height, parameters.num_inference_steps, parameters.guidance_scale
        kind = _kind_of(parameters)
        if kind == TEXT:
            pictures: tuple[object, ...] = ()
        elif self._looks(kind):
            pictures = (kind, *look_alike(parameters))
        else:
            pictures = (kind, parameters.strength)
        return (*size_and_steps, parameters.loras, *pictures)

    def begin(self, parameters: Parameters, pictures: Pictures | None = None) -> PipelineDrawing:
        lora_notes = self._loras.load(parameters.loras)
        texts = {"prompt": parameters.prompt, "negative prompt": parameters.negative_prompt}
        scheduler = getattr(self._pipeline, "scheduler", None)
        pipeline = self._pipeline_for(_kind_of(parameters))
        accepted = accepted_by(pipeline)
        if pictures is None:
            refuse_without_image(pipeline)
        elif not self._looks(_kind_of(parameters)):
            require_strength(parameters)
            pictures = fit(pictures, parameters.width, parameters.height)
        return PipelineDrawing(
            parameters,
            steps=parameters.num_inference_steps,
            sampler="" if scheduler is None else type(scheduler).__name__,
            notes=(
                *lora_notes,
                *notes_on(self._pipeline, accepted, texts),
                *guidance_notes(self._pipeline, accepted, parameters),
            ),
            pictures=pictures,
        )

    def step(self, drawings: Sequence[Drawing], after_each: Callable[[], None]) -> None:
        batch = [drawing for drawing in drawings if isinstance(drawing, PipelineDrawing)]
        stopped: list[BaseException] = []
        result = self._draw(batch, partial(_count_step, batch, after_each, stopped), stopped)
        images, unsafe = iter(result.images), iter(_unsafe_ones(result))
        for drawing in batch:
            drawing.images = [next(images) for _ in range(drawing.parameters.num_outputs)]
            drawing.unsafe = [next(unsafe) for _ in drawing.images]
            drawing.notes += _size_notes(drawing.images, drawing.parameters)
            drawing.steps_done = drawing.steps

    @told_apart
    def _draw(
        self, batch: Sequence[PipelineDrawing], on_step: Callable[..., dict[str, Any]], stopped: list[BaseException]
    ) -> Any:
        self._memory.watch()
        self._loras.switch(batch[0].parameters.loras)
        pipeline = self._pipeline_for(batch[0].kind)
        try:
            with quiet_diffusers():
                if "callback_on_step_end" in accepted_by(pipeline):
                    return pipeline(**self._arguments(batch), callback_on_step_end=on_step)
                with watching_steps(pipeline, lambda taken: on_step(pipeline, taken - 1, None, {})):
                    return pipeline(**self._arguments(batch))
        except ValueError as error:
            if stopped:
                raise
            raise DrawingFailed(f"{type(pipeline).__name__} refuses it: {error}") from error
        finally:
            self._pipeline.maybe_free_model_hooks()

    def decode(self, drawing: Drawing) -> Callable[[], list[Image]]:
        assert isinstance(drawing, PipelineDrawing)
        assert drawing.images is not None, "all of its steps are done"
        asked = drawing.parameters
        fetch = partial(images_of, drawing.images, drawing.unsafe, (asked.width, asked.height))
        return partial(keeping_the_rest, fetch, drawing.pictures)

    def preview(self, drawing: Drawing) -> Callable[[], Image] | None:
        return None

    def memory(self) -> Memory | None:
        return self._memory.now()

    @told_apart
    def rest(self, goes_on: Callable[[], bool]) -> bool:
        self._loras.drop_all()  # they are read from their files again
        return self._weights.move_away(goes_on)

    @told_apart
    def wake(self) -> None:
        if self._weights.are_away:
            self._weights.bring_back()

    def _arguments(self, batch: Sequence[PipelineDrawing]) -> dict[str, Any]:
        """One prompt and one generator an image, seeded on the CPU so that it is the same on every device.

        Each call gets new lists, because some pipelines change them in place.
        """
        first, kind = batch[0].parameters, batch[0].kind
        each = [(drawing.parameters, index) for drawing in batch for index in range(drawing.parameters.num_outputs)]
        pictures = [drawing.pictures for drawing in batch for _ in range(drawing.parameters.num_outputs)]
        accepted = accepted_by(self._pipeline_for(kind))
        arguments: dict[str, Any] = {
            "prompt": [asked.prompt for asked, _ in each],
            "generator": [torch.Generator("cpu").manual_seed(asked.seed_of(index)) for asked, index in each],
            "width": first.width,
            "height": first.height,
            "num_inference_steps": first.num_inference_steps,
            "output_type": "np",  # "pil" turns NaN into black, so a blank image could not be detected
            "enable_prompt_rewrite": False,  # LongCat would let its text encoder write a new one, never twice the same
            **guidance_arguments(self._pipeline, accepted, [asked for asked, _ in each]),
        }
        if self._looks(kind):
            arguments |= looked_at(self._pipeline_for(kind), batch[0].pictures, arguments)
        elif kind != TEXT:
            arguments["image"] = [given.image for given in pictures if given is not None]
            arguments["strength"] = strength_of_a_step(first)
        if kind == "mask":
            arguments["mask_image"] = [given.mask for given in pictures if given is not None]
        return {name: value for name, value in arguments.items() if name in accepted}


def made_from(pipeline: Any) -> dict[str, Any]:
    """The pipelines that draw from a start image ("image") and a mask ("mask") with the parts of this one."""
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

    made = {}
    for kind, automatic in (("image", AutoPipelineForImage2Image), ("mask", AutoPipelineForInpainting)):
        try:
            made[kind] = automatic.from_pipe(pipeline)
        except ValueError:  # diffusers has none for this family
            continue
        made[kind].set_progress_bar_config(disable=True)
    return made


def _kind_of(parameters: Parameters) -> str:
    """What a request gives besides its prompt."""
    if parameters.mask:
        return "mask"
    return "image" if parameters.image else TEXT


def _unsafe_ones(result: Any) -> list[bool]:
    """For each image whether the safety checker has blackened it; all False where the pipeline has no checker."""
    for name in ("nsfw_content_detected", "nsfw_detected"):  # DeepFloyd IF has the second
        if (found := getattr(result, name, None)) is not None:
            return [bool(flag) for flag in found]
    return [False] * len(result.images)


def _size_notes(images: Sequence[np.ndarray[Any, Any]], asked: Parameters) -> tuple[str, ...]:
    """Some families draw in the size that they were trained with: HiDream in about a megapixel."""
    height, width = images[0].shape[:2]
    if (width, height) == (asked.width, asked.height):
        return ()
    return (f"This model drew {width} × {height} pixels; the image was resized to {asked.width} × {asked.height}.",)


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
        if drawing.pictures is not None:
            drawing.steps = getattr(pipeline, "num_timesteps", drawing.steps)
        # Some schedulers take a few steps more than they are asked for.
        drawing.steps_done = min(step + 1, drawing.steps)
    try:
        after_each()
    except BaseException as error:
        stopped.append(error)
        raise
    return {}
