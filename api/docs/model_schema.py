"""One model's inputs and outputs as an OpenAPI document, the way Cog describes a model."""

from __future__ import annotations

from typing import Any

from api.schemas import ASPECT_RATIOS, MATCHES_IMAGE, MAX_LORA_SCALE, PICTURE_SCHEMA, PredictionInput
from storage.catalog import Model

# Clients only compare it: from 0.3.9 on, a list as output is a list and not an iterator.
COG_VERSION = "0.16.0"
# Inputs that are left out where the model doesn't take them. Other names of `image` and `images` are taken, not shown.
FOR_SOME_MODELS = (
    "image", "images", "input_images", "mask", "image_url", "image_urls", "mask_url", "strength",
    "loras", "lora_weights", "lora_scale",
)  # fmt: skip


def openapi_schema(model: Model) -> dict[str, Any]:
    """The schema with this model's own defaults and limits; `components.schemas.Input` and `.Output` are read."""
    return {
        "openapi": "3.0.2",
        "info": {"title": model.name, "version": model.version},
        "paths": {},
        "components": {
            "schemas": {
                "Input": {
                    "title": "Input",
                    "type": "object",
                    "required": ["prompt", *_required_pictures(model)],
                    "properties": _inputs(model),
                },
                "Output": {"title": "Output", "type": "array", "items": {"type": "string", "format": "uri"}},
            }
        },
    }


def _inputs(model: Model) -> dict[str, Any]:
    defaults, limits = model.defaults, model.limits
    side = {"minimum": limits.min_side, "maximum": limits.max_side, "multipleOf": limits.multiple_of}
    own: dict[str, dict[str, Any]] = {
        "prompt": {"maxLength": limits.max_prompt_chars},
        "negative_prompt": {"maxLength": limits.max_prompt_chars},
        "width": {"default": defaults.width, **side},
        "height": {"default": defaults.height, **side},
        "aspect_ratio": {"enum": [*ASPECT_RATIOS, *([MATCHES_IMAGE] if "image" in model.takes else [])]},
        "num_outputs": {"maximum": limits.max_outputs},
        "num_inference_steps": {"default": defaults.num_inference_steps, "maximum": limits.max_steps},
        "guidance_scale": {"default": defaults.guidance_scale, "maximum": limits.max_guidance_scale},
    }
    own |= _of_pictures(model) | _of_loras(model)
    properties: dict[str, dict[str, Any]] = PredictionInput.model_json_schema()["properties"]
    return {
        name: _required(schema) | own.get(name, {}) | {"x-order": order}
        for order, (name, schema) in enumerate(properties.items())
        if name not in FOR_SOME_MODELS or name in own
    }


def _of_pictures(model: Model) -> dict[str, dict[str, Any]]:
    inputs: dict[str, dict[str, Any]] = {name: {"format": "uri"} for name in model.takes}
    if model.takes_several_images:
        del inputs["image"]
        least = {"minItems": model.limits.min_input_images} if model.limits.min_input_images else {}
        return inputs | {"images": {"items": PICTURE_SCHEMA, **least, "maxItems": model.limits.max_input_images}}
    return inputs | ({"strength": {"default": model.defaults.strength}} if "image" in model.takes else {})


def _required_pictures(model: Model) -> list[str]:
    if not model.limits.min_input_images:
        return []
    return ["images" if model.takes_several_images else "image"]


def _of_loras(model: Model) -> dict[str, dict[str, Any]]:
    if not model.loras:
        return {}
    names = ", ".join(sorted(model.loras))
    named = {"type": "string", "maxLength": 2000}
    scale = {"type": "number", "minimum": -MAX_LORA_SCALE, "maximum": MAX_LORA_SCALE}
    lora = {"type": "object", "required": ["name"], "properties": {"name": named, "scale": scale}}
    items = {"anyOf": [named, lora]}
    entries = [
        {"name": name, "scale": entry.scale, "description": entry.description}
        for name, entry in sorted(model.loras.items())
    ]
    return {
        # `x-loras` is ours, for programs that offer them: any other name, such as a URL, may be sent too.
        "loras": {
            "items": items,
            "description": f"LoRAs that change the style, by name: {names}.",
            "x-loras": entries,
        },
        "lora_weights": {"description": f"One LoRA, by name: {names}."},
        "lora_scale": {},
    }


def _required(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0 has no null type: an input that may be left out is described as if it were there."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    if not kinds:
        return dict(schema)
    kinds = kinds[0].get("oneOf", kinds)  # one or more pictures: models that take one describe it alone
    described: dict[str, Any] = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**described, **kinds[0]}
