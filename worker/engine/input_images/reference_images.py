"""Pipelines that look at the images of a request and draw from noise alone, as FLUX.2's and Qwen-Image-Edit's do.

They take the images of one request at a time: all that draw together have to have the same ones, and the same prompt.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from storage.catalog import MOST_INPUT_IMAGES
from storage.predictions.parameters import Parameters
from worker.engine.interface import DrawingFailed, Pictures

# Their `image` is a list of all images of a request. That of other pipelines is one image, or one for each prompt.
AT_SEVERAL = {"Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinKVPipeline", "QwenImageEditPlusPipeline"}
# They draw nothing without an image, though their signature says otherwise.
AT_ONE_AT_LEAST = {"QwenImageEditPipeline", "QwenImageEditPlusPipeline"}


def accepted_by(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline's `__call__`."""
    return inspect.signature(pipeline.__call__).parameters


def looks_at_images(pipeline: Any) -> bool:
    """Whether it looks at images. If not, it starts from one, and `strength` says what of it is left."""
    return "strength" not in accepted_by(pipeline)


def most_images(pipeline: Any) -> int:
    """How many images of one request a pipeline draws from."""
    return MOST_INPUT_IMAGES if type(pipeline).__name__ in AT_SEVERAL else 1


def refuse_without_image(pipeline: Any) -> None:
    """Raises DrawingFailed if this pipeline draws nothing from a text alone."""
    if type(pipeline).__name__ in AT_ONE_AT_LEAST:
        raise DrawingFailed("This model only edits pictures: send an image. (Operators: min_input_images = 1.)")


def look_alike(parameters: Parameters) -> tuple[object, ...]:
    """What requests need to have in common to be drawn together."""
    return parameters.image, parameters.more_images, parameters.prompt, parameters.negative_prompt


def looked_at(pipeline: Any, pictures: Pictures | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call for the images of one request, of which several pictures may be drawn."""
    assert pictures is not None
    several = most_images(pipeline) > 1
    once = {name: arguments[name][:1] for name in ("prompt", "negative_prompt") if arguments.get(name)}
    return {
        **once,
        "image": [pictures.image, *pictures.more] if several else pictures.image,
        "num_images_per_prompt": len(arguments["generator"]),
    }
