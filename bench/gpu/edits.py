"""Pictures from a start image and with a mask, beside diffusers' own pipelines built from the same parts."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace
from typing import Any

import torch
from diffusers import ZImageImg2ImgPipeline, ZImageInpaintPipeline
from PIL import Image, ImageDraw

from bench.gpu.company import psnr
from bench.gpu.subject import Subject
from bench.gpu.table import Table, ms
from bench.gpu.timing import median_s
from storage.predictions.parameters import Parameters
from worker.engine import Pictures

STRENGTH = 0.6


def measure(subject: Subject) -> Table:
    table = Table(
        "Start images and masks",
        [
            "size",
            "what",
            "Darkroom, ms",
            "diffusers, ms",
            "ratio",
            "PSNR between them, dB",
            "before the first step, ms",
        ],
    )
    engine = subject.engine()
    for side in subject.sides:
        text = replace(subject.asked(side, seed=7), strength=STRENGTH)
        from_image = replace(text, image="of the benchmark")
        for what, asked in {
            f"from a start image, strength {STRENGTH}": from_image,
            f"with a mask, strength {STRENGTH}": replace(from_image, mask="of the benchmark"),
        }.items():
            _row(subject, engine, table, f"{side}²", what, asked)
    table.notes.append(
        "A whole picture without the decoding of its latents: the start image is encoded, then 5 of 8 steps are drawn."
        " The PSNR is of the latents at the end."
    )
    return table


def _row(subject: Subject, engine: Any, table: Table, size: str, what: str, asked: Parameters) -> None:
    pictures = _pictures(asked)

    def ours() -> torch.Tensor:
        drawing = engine.begin(asked, pictures)
        while drawing.steps_done < drawing.steps:
            engine.step([drawing], lambda: None)
        latents: torch.Tensor = drawing.latents[0]
        return latents.squeeze(1)

    kind = ZImageInpaintPipeline if asked.mask else ZImageImg2ImgPipeline
    parts = subject.pipeline.components | {"scheduler": copy.deepcopy(subject.pipeline.scheduler)}
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)

    def theirs() -> torch.Tensor:
        latents: torch.Tensor = pipeline(
            prompt=asked.prompt,
            image=pictures.image,
            **({"mask_image": pictures.mask} if asked.mask else {}),
            strength=asked.strength,
            width=asked.width,
            height=asked.height,
            num_inference_steps=asked.num_inference_steps,
            guidance_scale=0.0,
            generator=torch.Generator("cpu").manual_seed(asked.seed),
            output_type="latent",
        ).images[0]
        return latents

    engine.begin(asked, pictures)  # the prompt is kept from here on
    began = time.perf_counter()
    engine.begin(asked, pictures)
    subject.wait()
    begin_s = time.perf_counter() - began
    seconds, others = median_s(subject, ours, times=3), median_s(subject, theirs, times=3)
    likeness = psnr(theirs().float().cpu(), ours().float().cpu())
    table.rows.append(
        [
            size,
            what,
            ms(seconds),
            ms(others),
            f"{seconds / others:.2f}",
            "equal" if math.isinf(likeness) else f"{likeness:.1f}",
            ms(begin_s),
        ]
    )
    table.figures |= {f"{size}.{what}.s": seconds, f"{size}.{what}.diffusers_s": others}
    table.figures[f"{size}.{what}.psnr"] = min(likeness, 999.0)
    print(table.rows[-1], flush=True)


def _pictures(asked: Parameters) -> Pictures:
    size = asked.width, asked.height
    image = Image.new("RGB", size, "teal")
    ImageDraw.Draw(image).ellipse((size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), fill="orange")
    mask = None
    if asked.mask:
        mask = Image.new("L", size, 0)
        mask.paste(255, (size[0] // 2, size[1] // 2, *size))
    return Pictures(image, mask)
