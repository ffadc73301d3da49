"""What `POST /v1/images/generations`, `edits` and `variations` may say, and how it translates into our terms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from api.schemas import (
    FromOne,
    LoraScale,
    Metadata,
    Name,
    PredictionRequest,
    Priority,
    Prompt,
    Seed,
    Size,
    Strength,
    Text,
    Url,
    whole,
)
from storage.formats import FORMATS, OPENAI_NAMES
from storage.predictions.parameters import MAX_GIVEN_SEED

if TYPE_CHECKING:
    OutputFormat = str
else:
    OutputFormat = Literal[OPENAI_NAMES]
LOSSY = " and ".join(known.openai_name for known in FORMATS if known.is_lossy)
Compression = Annotated[int, Field(ge=0, le=100), BeforeValidator(whole)]
Partials = Annotated[int, Field(ge=0, le=3), BeforeValidator(whole)]


def _number_in_text(value: object) -> object:
    """ "2" is 2: some clients send the fields of a form as they are."""
    return int(value) if isinstance(value, str) and WHOLE.fullmatch(value) is not None else value


WHOLE = re.compile(r"-?[0-9]{1,20}", re.ASCII)
Count = Annotated[
    FromOne,
    BeforeValidator(_number_in_text),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"}]}),
]
SeedOrText = Annotated[
    Seed,
    BeforeValidator(_number_in_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": -1, "maximum": MAX_GIVEN_SEED},
                {"type": "string", "pattern": "^(-1|[0-9]{0,19})$"},
                {"type": "null"},
            ]
        }
    ),
]


class ImageRequest(BaseModel):
    """OpenAI's parameters, and those of ours that its clients can send with `extra_body`.

    `quality`, `style`, `background`, `moderation` and whatever else its API has are accepted and ignored.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    prompt: Prompt
    model: Name | None = None
    n: Count | None = None
    size: Size | None = Field(default=None, description="WIDTHxHEIGHT, or auto")
    response_format: Literal["url", "b64_json"] | None = None
    output_format: OutputFormat | None = None
    output_compression: Compression | None = Field(default=None, description=f"the quality of {LOSSY}")
    stream: bool | None = None
    partial_images: Partials | None = None
    user: Text | None = None

    negative_prompt: Text | None = None
    num_inference_steps: FromOne | None = None
    guidance_scale: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    seed: SeedOrText = None
    priority: Priority | None = None
    metadata: Metadata | None = None
    lora_weights: Url | None = None
    lora_scale: LoraScale | None = None

    event_name: ClassVar[str] = "image_generation"  # what the names of its events begin with


class EditRequest(ImageRequest):
    """The same with pictures to draw from. `image` and `mask` describe what the form carried."""

    image: list[str]
    mask: str | None = None
    strength: Strength | None = None

    event_name: ClassVar[str] = "image_edit"


def prediction_of(asked: ImageRequest) -> PredictionRequest:
    """The same request in our own terms."""
    inputs: dict[str, Any] = {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "num_outputs": asked.n,
        "num_inference_steps": asked.num_inference_steps,
        "guidance_scale": asked.guidance_scale,
        "size": asked.size,
        "seed": asked.seed,
        "priority": asked.priority,
        "output_format": asked.output_format,
        "lora_weights": asked.lora_weights,
        "lora_scale": asked.lora_scale,
        "output_quality": None if asked.output_compression is None else max(1, asked.output_compression),
    }
    if isinstance(asked, EditRequest):
        image = asked.image if len(asked.image) > 1 else asked.image[0]
        inputs |= {"image": image, "mask": asked.mask, "strength": asked.strength}
    return PredictionRequest(
        input={name: value for name, value in inputs.items() if value is not None},
        previews=bool(asked.stream and asked.partial_images),
        metadata=asked.metadata or {},
    )
