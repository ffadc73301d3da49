"""One model's inputs and outputs as an OpenAPI document, the way Cog describes a model."""

from __future__ import annotations

from typing import Any

from api.schemas import ASPECT_RATIOS, PredictionInput
from storage.catalog import Model

# Clients only compare it: from 0.3.9 on, a list as output is a list and not an iterator.
COG_VERSION = "0.16.0"


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
                    "required": ["prompt"],
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
        "aspect_ratio": {"enum": list(ASPECT_RATIOS)},
        "num_outputs": {"maximum": limits.max_outputs},
        "num_inference_steps": {"default": defaults.num_inference_steps, "maximum": limits.max_steps},
        "guidance_scale": {"default": defaults.guidance_scale, "maximum": limits.max_guidance_scale},
    }
    properties: dict[str, dict[str, Any]] = PredictionInput.model_json_schema()["properties"]
    return {
        name: _required(schema) | own.get(name, {}) | {"x-order": order}
        for order, (name, schema) in enumerate(properties.items())
    }


def _required(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0 has no null type: an input that may be left out is described as if it were there."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    if not kinds:
        return dict(schema)
    described: dict[str, Any] = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**described, **kinds[0]}
