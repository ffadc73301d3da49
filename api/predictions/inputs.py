"""Holding a request against its model's limits, and completing it by the model's defaults."""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from api.errors import InvalidInput
from api.parsing.validation import shown, shown_name, validated
from api.pictures.asked import AskedPicture, asked_pictures
from api.predictions.loras import loras_for
from api.schemas import ASPECT_RATIOS, MATCHES_IMAGE, SIZE, PredictionInput, PredictionRequest
from storage.catalog import Catalog, Limits, Model
from storage.formats import DEFAULT, ImageFormat, format_named
from storage.predictions.parameters import MAX_PRIORITY, MAX_SEED, Parameters


@dataclass(frozen=True)
class Inputs:
    """What a request asks for, checked and completed."""

    given: dict[str, Any]  # as the client sent it, what the model doesn't know left out
    parameters: Parameters
    notes: str  # the first lines of `logs`
    priority: int
    pictures: Mapping[str, AskedPicture] = dataclasses.field(default_factory=dict)  # still to be fetched


def inputs_for(
    model: Model,
    asked: PredictionRequest,
    *,
    max_priority: int = MAX_PRIORITY,
    max_images: int = 0,
    is_strict: bool = False,
    catalog: Catalog | None = None,
    lora_hosts: frozenset[str] = frozenset(),
    image_size: tuple[int, int] | None = None,
) -> Inputs:
    """Hold the inputs of a request against its model and its token's limits. Raises InvalidInput.

    It names the field, the value and the limit. If `is_strict`, what is not known here is refused, not ignored.
    `catalog` is where other models are looked for, to name those that could do it. `image_size` is that of the start
    image, (width, height) in pixels, once it is known: a request that gives no size gets the image's.
    """
    typed = validated(PredictionInput, asked.input, prefix="input")
    if is_strict:
        _refuse_unknown(asked, typed)
    if typed.priority > max_priority:
        raise InvalidInput("input.priority", f"{typed.priority} is above {max_priority}, the token's limit")
    if 0 < max_images < typed.num_outputs:
        raise InvalidInput(
            "input.num_outputs",
            f"{typed.num_outputs} is over {max_images}, the limit of images per prediction (the token's or MAX_IMAGES)",
        )
    pictures = asked_pictures(model, catalog or Catalog({model.name: model}), typed)
    parameters = _parameters_for(model, typed, image_size, previews=typed.previews or bool(asked.previews))
    if loras := loras_for(model, typed, lora_hosts):
        parameters = replace(parameters, loras=loras)
    if "image" in pictures and not model.takes_several_images:
        parameters = replace(parameters, strength=_strength(model, typed, has_mask="mask" in pictures))
    return Inputs(
        given=typed.model_dump(exclude_unset=True, exclude=set(typed.model_extra or {})),
        parameters=parameters,
        notes=_notes_on(model, typed, parameters, has_image="image" in pictures),
        priority=typed.priority,
        pictures=pictures,
    )


def _refuse_unknown(asked: PredictionRequest, typed: PredictionInput) -> None:
    if asked.model_extra:
        raise InvalidInput(
            shown_name(min(asked.model_extra)),
            "is not known here (X-Darkroom-Strict is 1); a model's inputs are in `input`",
        )
    if typed.model_extra:
        raise InvalidInput(
            f"input.{shown_name(min(typed.model_extra))}", "is no input of this model (X-Darkroom-Strict is 1)"
        )


def _parameters_for(
    model: Model, asked: PredictionInput, image_size: tuple[int, int] | None, *, previews: bool
) -> Parameters:
    """What is to be drawn, with nothing left open. Raises InvalidInput."""
    limits = model.limits
    width, height = _size(model, asked, image_size)
    steps = model.defaults.num_inference_steps if asked.num_inference_steps is None else asked.num_inference_steps
    guidance = model.defaults.guidance_scale if asked.guidance_scale is None else asked.guidance_scale
    _at_most("num_inference_steps", steps, limits.max_steps, model)
    _at_most("guidance_scale", guidance, limits.max_guidance_scale, model)
    _at_most("num_outputs", asked.num_outputs, limits.max_outputs, model)
    negative_prompt = asked.negative_prompt or ""
    for field, text in (("prompt", asked.prompt), ("negative_prompt", negative_prompt)):
        if len(text) > limits.max_prompt_chars:
            raise InvalidInput(
                f"input.{field}",
                f"has {len(text)} characters; {model.name} takes at most {limits.max_prompt_chars}",
            )
    output_format = format_named(asked.output_format)
    _check_format(output_format, width, height)
    return Parameters(
        prompt=asked.prompt,
        negative_prompt=negative_prompt,
        width=width,
        height=height,
        num_outputs=asked.num_outputs,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=secrets.randbelow(MAX_SEED + 1) if asked.seed is None else asked.seed % (MAX_SEED + 1),
        output_format=output_format.name,
        output_quality=asked.output_quality,
        previews=previews,
    )


def _notes_on(model: Model, asked: PredictionInput, parameters: Parameters, *, has_image: bool) -> str:
    """The first lines of `logs`: the seed, and what of the request has no effect."""
    lines = [f"Using seed: {parameters.seed}"]
    if asked.seed is not None and asked.seed > MAX_SEED:
        lines.append(f"These are the lowest 32 bits of {asked.seed}: only they make a difference")
    if unknown := sorted(asked.model_extra or {}):
        lines.append(f"Ignored inputs that this model does not have: {', '.join(map(shown_name, unknown))}")
    if asked.negative_prompt and parameters.guidance_scale == 0:
        lines.append("negative_prompt has no effect: guidance_scale is 0")
    if asked.strength is not None and not has_image:
        lines.append("strength has no effect: there is no image")
    elif asked.strength is not None and model.takes_several_images:
        lines.append("strength has no effect: this model looks at its images and draws from noise alone")
    if asked.lora_scale is not None and not asked.lora_weights:
        lines.append("lora_scale has no effect: there is no lora_weights")
    if overruled := _overruled_sizes(asked):
        lines.append(f"Not used, since another input gives the size: {', '.join(overruled)}")
    return "".join(f"{line}\n" for line in lines)


def _strength(model: Model, asked: PredictionInput, *, has_mask: bool) -> float:
    """The model's default is for a whole image; what a mask marks is redrawn unless the request says otherwise."""
    if asked.strength is not None:
        return asked.strength
    return 1.0 if has_mask else model.defaults.strength


def _size(model: Model, asked: PredictionInput, image_size: tuple[int, int] | None) -> tuple[int, int]:
    """`width` and `height` count first, then `size`, then `aspect_ratio`, then the image, then the model's default."""
    width, height = model.defaults.width, model.defaults.height
    if image_size is not None:
        width, height = _nearest_size(model.limits, *image_size)
    if (size := SIZE.fullmatch(asked.size or "")) is not None:
        width, height = int(size[1]), int(size[2])
    elif _ratio(asked) and asked.width is None and asked.height is None:
        width, height = _size_of_ratio(model, _ratio(asked))
    width = width if asked.width is None else asked.width
    height = height if asked.height is None else asked.height
    limits = model.limits
    for field, side in (("width", width), ("height", height)):
        _check_side(field, side, limits, model)
    if width * height > limits.max_pixels:
        raise InvalidInput(
            "input.width",
            f"{width}x{height} has {width * height} pixels; {model.name} draws at most {limits.max_pixels}",
        )
    return width, height


def _ratio(asked: PredictionInput) -> str:
    """ "" where the size follows the image, which it does without being asked to."""
    return "" if asked.aspect_ratio in (None, MATCHES_IMAGE) else asked.aspect_ratio


def _overruled_sizes(asked: PredictionInput) -> list[str]:
    """The inputs that would have given the size, had no other one come first."""
    has_size, sides = SIZE.fullmatch(asked.size or "") is not None, (asked.width, asked.height)
    overruled = ["size"] if has_size and None not in sides else []
    if asked.aspect_ratio and (has_size or sides != (None, None)):
        overruled.append("aspect_ratio")
    return overruled


def _check_side(field: str, side: int, limits: Limits, model: Model) -> None:
    if limits.min_side == limits.max_side != side:
        raise InvalidInput(f"input.{field}", f"must be {limits.min_side} for {model.name} (got {side})")
    if side % limits.multiple_of:
        raise InvalidInput(
            f"input.{field}", f"{side} is not a multiple of {limits.multiple_of}, which {model.name} needs"
        )
    if not limits.min_side <= side <= limits.max_side:
        raise InvalidInput(
            f"input.{field}",
            f"{side} is outside of {limits.min_side} to {limits.max_side}, which {model.name} draws",
        )


def _check_format(output_format: ImageFormat, width: int, height: int) -> None:
    """Refuse a size that the file format can't hold, before it is drawn."""
    longest = output_format.max_side
    for field, side in (("width", width), ("height", height)):
        if longest is not None and side > longest:
            raise InvalidInput(
                f"input.{field}",
                f"{side} is over {longest} pixels, the longest side of a {output_format.name} file: "
                f'ask for a smaller size, or for "output_format": "{DEFAULT.name}"',
            )


def _size_of_ratio(model: Model, ratio: str) -> tuple[int, int]:
    """The size of about the default's area, its sides rounded to the model's unit and kept within its limits."""
    if ratio not in ASPECT_RATIOS:
        raise InvalidInput("input.aspect_ratio", f"{shown(ratio)} is none of {', '.join(ASPECT_RATIOS)}")
    across, down = ASPECT_RATIOS[ratio]
    unit, limits = model.limits.multiple_of, model.limits
    scale = math.sqrt(model.defaults.width * model.defaults.height / (across * down))
    lowest = math.ceil(limits.min_side / unit) * unit
    highest = limits.max_side // unit * unit

    def side(parts: int) -> int:
        return min(max(round(parts * scale / unit) * unit, lowest), highest)

    width, height = side(across), side(down)
    if across != down and width == height:
        raise InvalidInput("input.aspect_ratio", f"{ratio} can't be had: {model.name} draws {width}x{height}")
    return width, height


def _nearest_size(limits: Limits, width: int, height: int) -> tuple[int, int]:
    """The size that the model can draw and that is nearest to a picture's, of about its shape."""
    unit = limits.multiple_of
    lowest, highest = math.ceil(limits.min_side / unit) * unit, limits.max_side // unit * unit
    scale = min(1.0, math.sqrt(limits.max_pixels / (width * height)), highest / max(width, height))
    scale = max(scale, min(lowest / min(width, height), highest / max(width, height)))

    def side(pixels: int) -> int:
        return min(max(round(pixels * scale / unit) * unit, lowest), highest)

    sides = [side(width), side(height)]
    while sides[0] * sides[1] > limits.max_pixels and max(sides) > lowest:  # rounding, or a very long picture
        sides[sides.index(max(sides))] -= unit
    return sides[0], sides[1]


def _at_most(field: str, value: float, limit: float, model: Model) -> None:
    if value > limit:
        raise InvalidInput(f"input.{field}", f"{value} is over the limit of {model.name}, which is {limit}")
