"""What a request may say: shapes and types here, a model's own limits in `api.predictions.inputs`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
)

from api.parsing.prefer import MAX_WARM_S, WARM_S
from storage.catalog import MOST_INPUT_IMAGES, MOST_WORKERS
from storage.formats import DEFAULT, FORMATS, NAMES
from storage.predictions.parameters import MAX_GIVEN_SEED, MAX_PRIORITY
from storage.webhooks.events import WebhookEvent

ASPECT_RATIOS: dict[str, tuple[int, int]] = {
    "1:1": (1, 1),
    "16:9": (16, 9),
    "9:16": (9, 16),
    "4:3": (4, 3),
    "3:4": (3, 4),
    "3:2": (3, 2),
    "2:3": (2, 3),
    "4:5": (4, 5),
    "5:4": (5, 4),
    "21:9": (21, 9),
    "9:21": (9, 21),
}

MATCHES_IMAGE = "match_input_image"  # Replicate's edit models have it beside the ratios


def _storable(value: str) -> str:
    """Postgres stores neither NUL nor half a surrogate pair."""
    if "\x00" in value:
        raise ValueError("must not contain the character NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode (it holds half of a surrogate pair)") from None
    return value


# White space as JavaScript and JSON Schema see it, and what Python counts in addition.
BLANK = r"\t\n\v\f\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
NOT_BLANK = re.compile(f"[^{BLANK}]")
SIZE = re.compile(r"([1-9][0-9]{0,4})[xX*×]([1-9][0-9]{0,4})", re.ASCII)


def _says_something(value: str) -> str:
    if NOT_BLANK.search(value) is None:
        raise ValueError("must not be empty")
    return value


def _is_size(value: str) -> str:
    if value not in ("", "auto") and SIZE.fullmatch(value) is None:
        raise ValueError("must be WIDTHxHEIGHT, such as 1024x1024, or auto")
    return value


_Storable = AfterValidator(_storable), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
Text = Annotated[str, *_Storable]
# The length is checked first: of what comes out of another check pydantic knows no more than that it has "items".
Prompt = Annotated[
    str,
    AfterValidator(_says_something),
    *_Storable,
    Field(json_schema_extra={"pattern": f"^[^\\x00]*[^\\x00{BLANK}][^\\x00]*$"}),
]
Size = Annotated[Text, AfterValidator(_is_size), Field(json_schema_extra={"pattern": f"^({SIZE.pattern}|auto)?$"})]
Name = Annotated[str, StringConstraints(max_length=200), *_Storable]
Url = Annotated[str, StringConstraints(max_length=2000), *_Storable]


def whole(value: object) -> object:
    """77.0 is an integer in JSON Schema, and some languages write it so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _random_if_open(value: object) -> object:
    """-1 (as in A1111) and "" (as from a form's empty field) ask for a random seed, as null does."""
    return None if value in (-1, "") and not isinstance(value, bool) else value


# The bounds stand inside, where the JSON Schema finds them.
Integer = Annotated[int, BeforeValidator(whole)]
FromOne = Annotated[int, Field(ge=1), BeforeValidator(whole)]
Percent = Annotated[int, Field(ge=1, le=100), BeforeValidator(whole)]
Priority = Annotated[int, Field(ge=0, le=MAX_PRIORITY), BeforeValidator(whole)]
Seed = Annotated[
    Annotated[int, Field(ge=0, le=MAX_GIVEN_SEED), BeforeValidator(whole)] | None,
    BeforeValidator(_random_if_open),
    Field(
        json_schema_extra={
            "anyOf": [
                {"type": "integer", "minimum": -1, "maximum": MAX_GIVEN_SEED},
                {"type": "string", "maxLength": 0},
                {"type": "null"},
            ]
        }
    ),
]


if TYPE_CHECKING:
    OutputFormat = str
else:
    OutputFormat = Literal[NAMES]  # a tuple is as good as its items; mypy can't read it
LOSSY = " and ".join(known.name for known in FORMATS if known.is_lossy)


MAX_METADATA_BYTES = 2048
MAX_LORA_SCALE = 4


def _small(value: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"must not have more than {MAX_METADATA_BYTES} bytes as JSON (it has {size})")
    return value


# Flat, so that each pair can be looked up.
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64), *_Storable]
MetadataValue = Text | bool | int | Annotated[float, Field(allow_inf_nan=False)] | None
KEY_SCHEMA = {"propertyNames": {"minLength": 1, "maxLength": 64, "pattern": r"^[^\x00]*$"}}  # pydantic writes none
Metadata = Annotated[
    dict[MetadataKey, MetadataValue], Field(max_length=16, json_schema_extra=KEY_SCHEMA), AfterValidator(_small)
]


# A data: URL is replaced by a description before it is looked at (api/pictures/sent.py): for it, 2,000 characters are
# no limit.
PICTURE_SCHEMA = {"type": "string", "format": "uri", "pattern": r"^[^\x00]*$"}
PictureUrl = Annotated[Url, WithJsonSchema(PICTURE_SCHEMA)]
PictureUrls = Annotated[list[PictureUrl], Field(max_length=MOST_INPUT_IMAGES)]
# What is wrong with a list is said of the list: without the tags it would be that it is no text.
OneOrMorePictures = Annotated[
    Annotated[PictureUrl, Tag("one")] | Annotated[PictureUrls, Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
]
# Nothing to draw is left at 0. A little more than that is one step.
Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
LoraScale = Annotated[float, Field(ge=-MAX_LORA_SCALE, le=MAX_LORA_SCALE, allow_inf_nan=False)]


class LoraInput(BaseModel):
    """A LoRA that a request asks for."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: Url = Field(description="As in the catalog, or an https: URL of a host in LORA_ALLOW.")
    scale: LoraScale | None = Field(default=None, description="How strong it is; 0: no effect.")


NameOrLora = Annotated[
    Annotated[Url, Tag("name")] | Annotated[LoraInput, Tag("lora")],
    Discriminator(lambda value: "lora" if isinstance(value, (dict, LoraInput)) else "name"),
]


class PredictionInput(BaseModel):
    """The inputs that models have in common. Unknown ones are ignored, and named in `logs`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    prompt: Prompt = Field(description="What to draw.")
    negative_prompt: Text | None = Field(default=None, description="What not to draw; needs a guidance_scale above 0.")
    width: Integer | None = Field(default=None, description="Pixels.")
    height: Integer | None = Field(default=None, description="Pixels.")
    size: Size | None = Field(
        default=None, description="WIDTHxHEIGHT, as in 512x768. If width or height is given too, that one counts."
    )
    aspect_ratio: Text | None = Field(
        default=None, description="As in 16:9. It counts only if none of width, height and size is given."
    )
    num_outputs: FromOne = Field(default=1, description="Images.")
    num_inference_steps: FromOne | None = Field(default=None, description="Denoising steps.")
    guidance_scale: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    seed: Seed = Field(
        default=None,
        description="Image k (from 0) is drawn with seed + k. Only the lowest 32 bits count. -1, null and an empty "
        "text ask for a random seed.",
    )
    image: OneOrMorePictures | None = Field(
        default=None, description="The picture to start from: a data: or https: URL, or a file of this service."
    )
    images: PictureUrls | None = Field(
        default=None, description="The pictures to draw from: data: or https: URLs, or files of this service."
    )
    mask: PictureUrl | None = Field(
        default=None, description="What of the image is redrawn: white is, black stays. Of its shape."
    )
    image_url: PictureUrl | None = Field(default=None, description="The same as image.")
    image_urls: PictureUrls | None = Field(default=None, description="The same as images.")
    input_images: PictureUrls | None = Field(default=None, description="The same as images.")
    mask_url: PictureUrl | None = Field(default=None, description="The same as mask.")
    strength: Strength | None = Field(
        default=None, description="How much of the image is redrawn: above 0. 1: nothing of it is left."
    )
    loras: Annotated[list[NameOrLora], Field(max_length=8)] | None = Field(
        default=None, description="LoRAs of the model, by name: they change its style."
    )
    lora_weights: Url | None = Field(default=None, description="One LoRA, as in loras.")
    lora_scale: LoraScale | None = Field(default=None, description="Of lora_weights: how strong it is.")
    output_format: OutputFormat = DEFAULT.name
    output_quality: Percent = Field(default=90, description=f"Of {LOSSY}.")
    priority: Priority = Field(default=0, description="What is higher is drawn first, as far as the token allows.")
    cache: bool = Field(default=True, description="false: draw it, also where the same picture was drawn before.")
    reuse: bool = Field(default=False, description="Without a seed: any picture of this prompt that exists will do.")
    previews: bool = Field(default=False, description="Show small pictures of the drawing in `events`.")


class PredictionRequest(BaseModel):
    """The body of `POST /v1/predictions`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    input: dict[str, Any]
    model: Name | None = None
    version: Name | None = None
    webhook: Url | None = None
    webhook_events_filter: list[WebhookEvent] | None = None
    stream: bool | None = Field(default=None, description="Accepted as it is: every prediction can be streamed.")
    previews: bool | None = Field(default=None, description="The same as in `input`.")
    keep: bool = Field(default=False, description="true: RETENTION_S doesn't apply to it.")
    metadata: Metadata = Field(
        default={}, description="Your own: up to 16 pairs that answers and webhooks show, and lists can be filtered by."
    )


class KeepRequest(BaseModel):
    """The body of `POST /v1/predictions/{id}/keep`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    keep: bool = Field(default=True, description="false: RETENTION_S applies to it again.")


class WarmRequest(BaseModel):
    """The body of `POST /v1/models/{owner}/{name}/warm`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    seconds: Annotated[int, Field(ge=1, le=MAX_WARM_S), BeforeValidator(whole)] = Field(
        default=WARM_S, description="For how long a worker stays ready, also if nothing is asked for."
    )


DEFAULT_HARDWARE = "gpu"
DEPLOYMENT_NAME = r"^[a-z0-9][a-z0-9._-]*$"
Instances = Annotated[int, Field(ge=0, le=MOST_WORKERS), BeforeValidator(whole)]


class DeploymentRequest(BaseModel):
    """The body of `POST /v1/deployments`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: str = Field(max_length=64, pattern=DEPLOYMENT_NAME, description="Of the new deployment, without its owner.")
    model: Name
    version: Name | None = Field(default=None, description="Of the model, which has one.")
    hardware: Name = Field(default=DEFAULT_HARDWARE, description="Shown as it is given; it has no effect.")
    min_instances: Instances = Field(description="So many workers stay ready.")
    max_instances: Instances = Field(description="The model has no more workers. 0: nothing is drawn.")


class DeploymentChange(BaseModel):
    """The body of `PATCH /v1/deployments/{owner}/{name}`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    version: Name | None = None
    hardware: Name | None = None
    min_instances: Instances | None = None
    max_instances: Instances | None = None
