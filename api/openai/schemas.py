"""What `POST /v1/images/generations` may say, and how it and its errors translate into ours."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.errors import InvalidInput
from api.schemas import FromOne, Name, PredictionRequest, Priority, Seed, Text, whole

SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)

Compression = Annotated[int, Field(ge=0, le=100), BeforeValidator(whole)]
Partials = Annotated[int, Field(ge=0, le=3), BeforeValidator(whole)]

# What our own errors call an input, and what OpenAI does.
PARAMETERS = {
    "width": "size",
    "height": "size",
    "num_outputs": "n",
    "output_quality": "output_compression",
}


class ImageRequest(BaseModel):
    """OpenAI's parameters, and those of ours that its clients can send with `extra_body`.

    `quality`, `style`, `background`, `moderation` and whatever else its API has are accepted and ignored.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    prompt: Text
    model: Name | None = None
    n: FromOne | None = None
    size: Text | None = Field(default=None, description="WIDTHxHEIGHT, or auto")
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Compression | None = Field(default=None, description="the quality of jpeg and webp")
    stream: bool | None = None
    partial_images: Partials | None = None
    user: Text | None = None

    negative_prompt: Text | None = None
    num_inference_steps: FromOne | None = None
    guidance_scale: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    seed: Seed | None = None
    priority: Priority | None = None


def prediction_of(asked: ImageRequest) -> PredictionRequest:
    """The same request in our own terms. Raises InvalidInput."""
    inputs: dict[str, Any] = {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "num_outputs": asked.n,
        "num_inference_steps": asked.num_inference_steps,
        "guidance_scale": asked.guidance_scale,
        "seed": asked.seed,
        "priority": asked.priority,
        "output_format": asked.output_format,
        "output_quality": None if asked.output_compression is None else max(1, asked.output_compression),
    }
    if asked.size not in (None, "auto"):
        match = SIZE.fullmatch(asked.size or "")
        if match is None:
            raise InvalidInput(
                "size", f"{(asked.size or '')[:40]!r} is neither WIDTHxHEIGHT, such as 1024x1024, nor auto"
            )
        inputs |= {"width": int(match[1]), "height": int(match[2])}
    return PredictionRequest(
        input={name: value for name, value in inputs.items() if value is not None},
        previews=bool(asked.stream and asked.partial_images),
    )


def as_openai_error(problem: dict[str, Any]) -> dict[str, Any]:
    """One of our problems as OpenAI's error object."""
    status, message = problem["status"], problem["detail"]
    parameter = None
    for invalid in problem.get("invalid_fields", [])[:1]:
        field = invalid["field"].removeprefix("input.")
        parameter = PARAMETERS.get(field, field)
        message = f"{parameter}: {invalid['description']}"
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"message": message, "type": kind, "param": parameter, "code": problem.get("code")}
