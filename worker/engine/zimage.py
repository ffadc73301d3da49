"""Z-Image, stepped by hand: diffusers' own ZImagePipeline, with its loop turned inside out.

One forward of the transformer takes latents of different sizes, a time step per sample and captions of different
lengths, so drawings that began at different times share it. The arithmetic is that of `ZImagePipeline.__call__`
and of FlowMatchEulerDiscreteScheduler in diffusers 0.42: x += (sigma[i+1] - sigma[i]) · (-v), t = 1 - sigma.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from storage.catalog import Model
from storage.parameters import Parameters
from worker.engine.interface import Drawing, ModelNotLoaded
from worker.engine.weights import find_weights, pipeline_class_of

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

log = structlog.get_logger(__name__)

MAX_CAPTION_TOKENS = 512  # ZImagePipeline's own default


@dataclass
class ZImageDrawing:
    """A request in the middle of its steps. Latents are float32, (channels, 1, height / 8, width / 8), one an image."""

    parameters: Parameters
    latents: list[torch.Tensor]
    caption: torch.Tensor  # (tokens, hidden size)
    negative_caption: torch.Tensor | None  # only with classifier-free guidance
    sigmas: torch.Tensor  # (steps + 1,), falling to 0
    times: torch.Tensor  # (steps,), what the transformer is told: 1 - sigma
    steps_done: int = field(default=0)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


class ZImageEngine:
    """A ZImagePipeline on one device."""

    def __init__(self, model: Model, *, device: str) -> None:
        self._model = model
        self._asked_device = device
        self._pipeline: Any = None
        self._device: Any = None

    @property
    def device(self) -> str:
        if self._device is None:
            return self._asked_device
        if self._device.type == "cuda":
            import torch

            return torch.cuda.get_device_name(self._device)
        return str(self._device)

    def load(self) -> None:
        """Import torch and diffusers and read the weights. Raises ModelNotLoaded."""
        folder = find_weights(self._model.source)
        name = pipeline_class_of(folder)
        if name != "ZImagePipeline":
            raise ModelNotLoaded(f"{folder} holds a {name}; this release draws with ZImagePipeline only")
        if self._model.dtype == "float16":
            raise ModelNotLoaded("Z-Image gives black images in float16: set dtype to bfloat16 or float32")
        began = time.monotonic()
        import torch
        from diffusers import ZImagePipeline

        imported = time.monotonic()
        self._device = _choose_device(self._asked_device)
        try:
            pipeline_class: Any = ZImagePipeline  # diffusers is not typed
            pipeline = pipeline_class.from_pretrained(
                folder, dtype=getattr(torch, self._model.dtype), use_safetensors=True, local_files_only=True
            )
            self._pipeline = pipeline.to(self._device)
        except Exception as error:  # whatever a damaged folder makes the libraries raise
            raise ModelNotLoaded(f"{folder} can't be loaded: {type(error).__name__}: {error}") from error
        log.info(
            "engine.loaded",
            model=self._model.name,
            device=self.device,
            import_s=round(imported - began, 2),
            load_s=round(time.monotonic() - imported, 2),
        )

    def begin(self, parameters: Parameters) -> ZImageDrawing:
        import torch

        with torch.inference_mode():
            guided = parameters.guidance_scale > 0
            sigmas, times = self._schedule(parameters)
            captions, negative = self._pipeline.encode_prompt(
                prompt=[parameters.prompt],  # a list is changed in place, so it is ours
                negative_prompt=[parameters.negative_prompt],
                do_classifier_free_guidance=guided,
                device=self._device,
                max_sequence_length=MAX_CAPTION_TOKENS,
            )
            return ZImageDrawing(
                parameters=parameters,
                latents=[self._noise(parameters, parameters.seed_of(index)) for index in range(parameters.num_outputs)],
                caption=captions[0],
                negative_caption=negative[0] if guided else None,
                sigmas=sigmas,
                times=times,
            )

    def step(self, drawings: Sequence[Drawing]) -> None:
        import torch

        with torch.inference_mode():
            samples: list[torch.Tensor] = []
            times: list[torch.Tensor] = []
            captions: list[torch.Tensor] = []
            for drawing in drawings:
                assert isinstance(drawing, ZImageDrawing)
                passes = [drawing.caption]
                if drawing.negative_caption is not None:
                    passes.append(drawing.negative_caption)
                for caption in passes:
                    samples += [latents.to(self._pipeline.transformer.dtype) for latents in drawing.latents]
                    times += [drawing.times[drawing.steps_done]] * len(drawing.latents)
                    captions += [caption] * len(drawing.latents)
            velocities = self._pipeline.transformer(samples, torch.stack(times), captions, return_dict=False)[0]
            taken = 0
            for drawing in drawings:
                assert isinstance(drawing, ZImageDrawing)
                count = len(drawing.latents) * (1 if drawing.negative_caption is None else 2)
                _advance(drawing, [velocity.float() for velocity in velocities[taken : taken + count]])
                taken += count

    def finish(self, drawing: Drawing) -> list[Image]:
        import torch

        assert isinstance(drawing, ZImageDrawing)
        vae = self._pipeline.vae
        images: list[Image] = []
        with torch.inference_mode():
            for latents in drawing.latents:  # one at a time: decoding is what takes the most memory
                scaled = latents.squeeze(1).unsqueeze(0).to(vae.dtype) / vae.config.scaling_factor
                pixels = vae.decode(scaled + vae.config.shift_factor, return_dict=False)[0]
                images += self._pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    def _noise(self, parameters: Parameters, seed: int) -> torch.Tensor:
        """The latents that a seed begins with, drawn on the CPU so that they are the same on every device."""
        import torch

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


def _advance(drawing: ZImageDrawing, velocities: list[torch.Tensor]) -> None:
    """One Euler step of a drawing's images; with guidance, the second half of `velocities` is the negative one."""
    count = len(drawing.latents)
    if drawing.negative_caption is not None:
        scale = drawing.parameters.guidance_scale
        velocities = [
            wanted + scale * (wanted - unwanted)
            for wanted, unwanted in zip(velocities[:count], velocities[count:], strict=True)
        ]
    delta = drawing.sigmas[drawing.steps_done + 1] - drawing.sigmas[drawing.steps_done]
    drawing.latents = [
        latents - delta * velocity for latents, velocity in zip(drawing.latents, velocities, strict=True)
    ]
    drawing.steps_done += 1


def _choose_device(asked: str) -> torch.device:
    import torch

    if asked != "auto":
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
