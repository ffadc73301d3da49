"""Z-Image, stepped by hand: diffusers' own ZImagePipeline, with its loop turned inside out.

One forward of the transformer takes latents of different sizes, a time step per sample and captions of different
lengths, so drawings that began at different times share it. The arithmetic is that of `ZImagePipeline.__call__`
and of FlowMatchEulerDiscreteScheduler in diffusers 0.42: x += (sigma[i+1] - sigma[i]) · (-v), t = 1 - sigma. With a
start image it is that of ZImageImg2ImgPipeline, with a mask that of ZImageInpaintPipeline.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from storage.predictions.parameters import Lora, Parameters
from worker.engine.device.choose import device_name
from worker.engine.device.copy_images import start_copying
from worker.engine.device.errors import told_apart
from worker.engine.device.memory import DeviceMemory
from worker.engine.device.standby import Weights
from worker.engine.input_images.pictures import fit, keeping_the_rest, skipped_steps
from worker.engine.input_images.start_image import Kept, start_from
from worker.engine.interface import Drawing, Memory, Pictures
from worker.engine.loras import Loras
from worker.engine.preview_map import PreviewMap
from worker.engine.prompts.embeddings import EmbeddingCache
from worker.engine.prompts.long_prompts import count_tokens, note_of

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_CAPTION_TOKENS = 512  # ZImagePipeline's own default
CAPTION_UNIT = 32  # the transformer fills captions up to a multiple of it, with tokens that are attended
PATCH = 2
# These take an attention mask; the others need drawings of one length in a forward. On a GPU, no mask is used at all:
# a forward for each length is quicker than one that is filled up to the longest (a step of two pictures of 512² and
# two of 1024²: 401 ms and 600 ms on an H200, docs/benchmarks-gpu.md), and no drawing's numbers depend on such others.
MASKING_BACKENDS = ("", "native", "_native_efficient", "_native_math", "flex", "xformers")


@dataclass
class ZImageDrawing:
    """A request in the middle of its steps. Latents are float32, (channels, 1, height / 8, width / 8), one an image."""

    parameters: Parameters
    latents: list[torch.Tensor]
    caption: torch.Tensor  # (tokens, hidden size)
    negative_caption: torch.Tensor | None  # only with classifier-free guidance
    sigmas: torch.Tensor  # (steps + 1,), falling to 0
    times: torch.Tensor  # (steps,), the transformer's input: 1 - sigma
    sampler: str = ""
    notes: tuple[str, ...] = ()
    steps_done: int = field(default=0)
    forecast: torch.Tensor | None = None  # what the first image would be if its velocity stayed as it is
    pictures: Pictures | None = None  # of the size that is drawn
    kept: Kept | None = None  # what a mask keeps of the start image

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


@dataclass(frozen=True)
class _Sample:
    """One image in one forward: with guidance, each image is in it twice."""

    latents: torch.Tensor
    time: torch.Tensor
    caption: torch.Tensor
    loras: tuple[Lora, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens of the picture and of the caption as the transformer fills them up; equal ones need no mask."""
        _, frames, height, width = self.latents.shape
        tokens = frames * (height // PATCH) * (width // PATCH)
        return _filled(tokens), _filled(len(self.caption))


class ZImageEngine:
    """A ZImagePipeline that lies on its device."""

    joins_midway = True
    takes = ("image", "mask")
    max_images = 1

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
        self._takes_masks = attention in MASKING_BACKENDS and device.type != "cuda"
        self._embeddings = EmbeddingCache(self._encode)
        self._weights = Weights(pipeline, device)
        self._memory = DeviceMemory(device)
        self._preview_map: PreviewMap | None = None

    @property
    def device(self) -> str:
        return device_name(self._device)

    def batch_key(self, parameters: Parameters) -> object:
        return None  # everything goes with everything

    @told_apart
    def begin(self, parameters: Parameters, pictures: Pictures | None = None) -> ZImageDrawing:
        notes = self._loras.load(parameters.loras)  # so that one that doesn't fit fails before it shares a step
        return self._begin(parameters, pictures, notes)

    @torch.inference_mode()
    def _begin(self, parameters: Parameters, pictures: Pictures | None, notes: tuple[str, ...]) -> ZImageDrawing:
        guided = parameters.guidance_scale > 0
        sigmas, times = self._schedule(parameters)
        kept = None
        if pictures is None:
            seeds = [parameters.seed_of(index) for index in range(parameters.num_outputs)]
            latents = [self._noise(parameters, seed) for seed in seeds]
        else:
            skipped = skipped_steps(parameters)
            sigmas, times = sigmas[skipped:], times[skipped:]
            pictures = fit(pictures, parameters.width, parameters.height)
            latents, kept = start_from(self._pipeline.vae, self._device, parameters, pictures, sigmas[0])
        return ZImageDrawing(
            parameters=parameters,
            latents=latents,
            caption=self._embeddings.get(parameters.prompt),
            negative_caption=self._embeddings.get(parameters.negative_prompt) if guided else None,
            sigmas=sigmas,
            times=times,
            sampler=type(self._pipeline.scheduler).__name__,
            notes=(*notes, *self._notes(parameters)),
            pictures=pictures,
            kept=kept,
        )

    def step(self, drawings: Sequence[Drawing], after_each: Callable[[], None]) -> None:
        self._advance_all([drawing for drawing in drawings if isinstance(drawing, ZImageDrawing)])
        after_each()

    @told_apart
    @torch.inference_mode()
    def _advance_all(self, drawings: Sequence[ZImageDrawing]) -> None:
        self._memory.watch()
        velocities = iter(self._velocities([sample for drawing in drawings for sample in self._samples(drawing)]))
        advanced = [_next_latents(drawing, velocities) for drawing in drawings]
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # so that time, progress and errors are this step's
        for drawing, (latents, forecast) in zip(drawings, advanced, strict=True):
            drawing.latents, drawing.forecast = latents, forecast
            drawing.steps_done += 1

    @told_apart
    @torch.inference_mode()
    def decode(self, drawing: Drawing) -> Callable[[], list[Image]]:
        assert isinstance(drawing, ZImageDrawing)
        vae = self._pipeline.vae
        decoded = []
        for latents in drawing.latents:  # one at a time: decoding is what takes the most memory
            scaled = latents.squeeze(1).unsqueeze(0).to(vae.dtype) / vae.config.scaling_factor
            decoded.append(vae.decode(scaled + vae.config.shift_factor, return_dict=False)[0][0])
        return partial(keeping_the_rest, start_copying(decoded), drawing.pictures)

    @told_apart
    @torch.inference_mode()
    def preview(self, drawing: Drawing) -> Callable[[], Image] | None:
        assert isinstance(drawing, ZImageDrawing)
        if drawing.forecast is None:
            return None
        if self._preview_map is None:
            self._preview_map = PreviewMap(self._pipeline.vae)
        return partial(_show, self._preview_map, drawing.forecast.squeeze(1).cpu())

    def memory(self) -> Memory | None:
        return self._memory.now()

    @told_apart
    def rest(self, goes_on: Callable[[], bool]) -> bool:
        self._loras.drop_all()  # they are read from their files again
        self._embeddings.clear()
        return self._weights.move_away(goes_on)

    @told_apart
    def wake(self) -> None:
        if self._weights.are_away:
            self._weights.bring_back()

    def _notes(self, parameters: Parameters) -> tuple[str, ...]:
        texts = {"prompt": parameters.prompt}
        if parameters.guidance_scale > 0:
            texts["negative prompt"] = parameters.negative_prompt
        counted = {what: count_tokens(self._pipeline.tokenizer, self._templated(text)) for what, text in texts.items()}
        return tuple(
            note_of(what, tokens, MAX_CAPTION_TOKENS) for what, tokens in counted.items() if tokens > MAX_CAPTION_TOKENS
        )

    def _templated(self, prompt: str) -> str:
        templated: str = self._pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        return templated

    def _encode(self, prompt: str) -> torch.Tensor:
        """The text states that the transformer gets, (tokens, hidden size).

        Encoded at the length that the prompt needs, not at 512 as the pipeline does: no token sees the padding that
        follows it, so the result is the same.
        """
        tokens = count_tokens(self._pipeline.tokenizer, self._templated(prompt))
        captions, _ = self._pipeline.encode_prompt(
            prompt=[prompt],  # a list is changed in place, so it is ours
            do_classifier_free_guidance=False,
            device=self._device,
            max_sequence_length=min(_filled(tokens), MAX_CAPTION_TOKENS),
        )
        caption: torch.Tensor = captions[0]
        return caption

    def _samples(self, drawing: ZImageDrawing) -> list[_Sample]:
        """The images with the prompt, then, with guidance, the same with the negative prompt."""
        captions = (
            [drawing.caption] if drawing.negative_caption is None else [drawing.caption, drawing.negative_caption]
        )
        dtype = self._pipeline.transformer.dtype
        time = drawing.times[drawing.steps_done]
        loras = drawing.parameters.loras
        return [_Sample(latents.to(dtype), time, caption, loras) for caption in captions for latents in drawing.latents]

    def _velocities(self, samples: Sequence[_Sample]) -> list[torch.Tensor]:
        """What the transformer says to each sample, float32, in their order.

        A forward has one set of LoRAs. The set that is switched on comes first, so that no switch is wasted.
        """
        groups: dict[tuple[tuple[Lora, ...], object], list[int]] = {}
        for place, sample in enumerate(samples):
            shape = None if self._takes_masks else sample.shape
            groups.setdefault((sample.loras, shape), []).append(place)
        velocities: dict[int, torch.Tensor] = {}
        active = self._loras.active
        for group in sorted(groups, key=lambda group: (group[0] != active, str(group[0]))):
            self._loras.switch(group[0])
            places = groups[group]
            answers = self._pipeline.transformer(
                [samples[place].latents for place in places],
                torch.stack([samples[place].time for place in places]),
                [samples[place].caption for place in places],
                return_dict=False,
            )[0]
            velocities |= {place: answer.float() for place, answer in zip(places, answers, strict=True)}
        return [velocities[place] for place in range(len(samples))]

    def _noise(self, parameters: Parameters, seed: int) -> torch.Tensor:
        """The latents that a seed begins with, drawn on the CPU so that they are the same on every device."""
        unit = self._pipeline.vae_scale_factor * 2
        shape = (
            1,
            self._pipeline.transformer.in_channels,
            2 * (parameters.height // unit),
            2 * (parameters.width // unit),
        )
        generator = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn(shape, generator=generator, dtype=torch.float32)
        return noise[0].unsqueeze(1).to(self._device)

    def _schedule(self, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """The noise levels and times of all steps, from the pipeline's own scheduler configuration."""
        from diffusers.pipelines.z_image.pipeline_z_image import calculate_shift, get_default_z_image_sigmas

        scheduler = copy.deepcopy(self._pipeline.scheduler)  # the pipeline's own holds one step index
        unit = self._pipeline.vae_scale_factor * 2
        config = scheduler.config
        mu = calculate_shift(
            (parameters.height // unit) * (parameters.width // unit),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        scheduler.set_timesteps(
            sigmas=get_default_z_image_sigmas(parameters.num_inference_steps), mu=mu, device=self._device
        )
        return scheduler.sigmas.to(self._device), (1000 - scheduler.timesteps) / 1000


def _next_latents(
    drawing: ZImageDrawing, velocities: Iterator[torch.Tensor]
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """One Euler step of a drawing's images, and the forecast of the first where a preview is wanted."""
    wanted = [next(velocities) for _ in drawing.latents]
    if drawing.negative_caption is not None:
        scale = drawing.parameters.guidance_scale
        wanted = [velocity + scale * (velocity - next(velocities)) for velocity in wanted]
    sigma, next_sigma = drawing.sigmas[drawing.steps_done], drawing.sigmas[drawing.steps_done + 1]
    latents = [
        latents - (next_sigma - sigma) * velocity for latents, velocity in zip(drawing.latents, wanted, strict=True)
    ]
    forecast = latents[0] + next_sigma * wanted[0] if drawing.parameters.previews else None
    if drawing.kept is not None:
        forecast = None if forecast is None else drawing.kept.put_back(forecast, 0)
        is_last = drawing.steps_done + 1 == drawing.steps
        latents = [
            drawing.kept.put_back(each, index, None if is_last else next_sigma) for index, each in enumerate(latents)
        ]
    return latents, forecast


def _show(preview_map: PreviewMap, latents: torch.Tensor) -> Image:
    from PIL import Image

    return Image.fromarray(preview_map.picture(latents).numpy())


def _filled(tokens: int) -> int:
    return -(-tokens // CAPTION_UNIT) * CAPTION_UNIT
