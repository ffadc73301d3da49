"""The models that this deployment serves: `models.toml`. The API reads only this, never the weights."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from storage.errors import OperatorError, UnknownModel
from storage.hours import EXAMPLE, Hours
from storage.postgres.procrastinate import queue_name_of
from storage.predictions.parameters import Parameters

MOST_WORKERS = 64  # that can be asked for to stay ready
MOST_INPUT_IMAGES = 16  # as OpenAI's models take
MinWorkers = Annotated[int, Field(ge=0, le=MOST_WORKERS)]
NEVER = datetime.fromtimestamp(0, UTC)
NAME = r"^[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Defaults(_Part):
    """What a request that says nothing gets."""

    width: int = Field(default=1024, gt=0, description="pixels")
    height: int = Field(default=1024, gt=0, description="pixels")
    num_inference_steps: int = Field(default=8, ge=1, description="denoising steps")
    guidance_scale: float = Field(default=0.0, ge=0, description="0: no classifier-free guidance")
    strength: float = Field(
        default=0.6, gt=0, le=1, description="how much of a start image is redrawn; 1: nothing of it is left"
    )


class Limits(_Part):
    """What a request may ask for; anything beyond is 422."""

    max_pixels: int = Field(default=4_194_304, gt=0, description="width × height of one image")
    min_side: int = Field(default=64, gt=0, description="pixels")
    max_side: int = Field(default=4096, gt=0, description="pixels")
    multiple_of: int = Field(default=16, gt=0, description="width and height are multiples of it, in pixels")
    max_steps: int = Field(default=50, ge=1, description="the largest num_inference_steps")
    max_guidance_scale: float = Field(default=20.0, ge=0, description="the largest guidance_scale")
    max_prompt_chars: int = Field(
        default=4000, ge=1, description="the most characters of prompt, and of negative_prompt"
    )
    max_outputs: int = Field(
        default=4,
        ge=1,
        le=10,
        description="the largest num_outputs, and OpenAI's n; all are drawn in one step",
    )
    min_input_images: int = Field(
        default=0, ge=0, le=1, description="1: a request has to give an image, for models that can only edit"
    )
    max_input_images: int = Field(
        default=1,
        ge=1,
        le=MOST_INPUT_IMAGES,
        description="how many images a request may give, for a model that takes some; more than 1 only for models that "
        "look at several, such as FLUX.2",
    )


class LoraEntry(_Part):
    """A LoRA that requests may name."""

    source: str = Field(min_length=1, description="a .safetensors file beside models.toml, or a hub id")
    scale: float = Field(default=1.0, ge=-4, le=4, description="used where a request gives none")
    description: str = Field(default="", description="shown by GET /v1/models, in the schema (`x-loras`)")


class Warm(_Part):
    """How many workers stay ready when nothing waits."""

    min_workers: int = Field(default=0, ge=0, le=MOST_WORKERS, description="at any time")
    hours: dict[str, MinWorkers] = Field(
        default={},
        description="as a key of its own, beside min_workers: in these hours so many (days, hours, time zone)",
        json_schema_extra={"key": f'"{EXAMPLE}"'},
    )

    @model_validator(mode="before")
    @classmethod
    def _other_keys_are_hours(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            "min_workers": given.get("min_workers", 0),
            "hours": {key: value for key, value in given.items() if key != "min_workers"},
        }

    @field_validator("hours")
    @classmethod
    def _can_be_read(cls, hours: dict[str, int]) -> dict[str, int]:
        for text in hours:
            try:
                Hours.parse(text)
            except ValueError as error:
                raise ValueError(f"{error}. The keys of this table are min_workers and hours") from None
        return hours

    def min_workers_at(self, moment: datetime) -> int:
        """The largest of the numbers that hold at this moment."""
        return max([self.min_workers, *(number for hours, number in self._hours if hours.include(moment))])

    @cached_property
    def _hours(self) -> list[tuple[Hours, int]]:
        return [(Hours.parse(text), number) for text, number in self.hours.items()]


class Blank(_Part):
    """How long the `blank` engine pretends to work: for tests and benchmarks of everything around the model."""

    load_s: float = Field(default=0.0, ge=0, description="how many seconds loading takes")
    step_s: float = Field(default=0.0, ge=0, description="how many seconds a step takes")


class DeviceSettings(_Part):
    """How the weights lie on the device and run there. All of it is off unless it is asked for."""

    attention: str = Field(default="", description="diffusers' attention back end: native, flash, _flash_3, sage, …")
    preset: Literal["exact", "fast"] = Field(
        default="exact",
        description="exact: a picture drawn alone is diffusers' own, bit for bit; fast: what was measured to be the "
        "quickest within the rounding of dtype, which is `compile` at present",
    )
    compile: bool = Field(default=False, description="compile the repeated blocks: quicker steps, a slower start")
    quantization: Literal["", "int8", "int4", "float8"] = Field(
        default="", description="quantize the transformer's weights with torchao"
    )
    gguf: str = Field(default="", description="a .gguf file with the transformer's weights; `source` gives the rest")
    offload: Literal["", "model", "sequential"] = Field(
        default="", description="keep parts in main memory while they are not needed"
    )
    device_map: Literal["", "balanced", "cuda"] = Field(default="", description="spread the parts over the devices")
    parallel_loading: bool = Field(default=False, description="read the files of a part at the same time")

    @property
    def compiles(self) -> bool:
        return self.compile or self.preset == "fast"

    @property
    def can_rest(self) -> bool:
        """Whether a worker can move the weights to main memory and back."""
        return not (self.compiles or self.quantization or self.gguf or self.offload or self.device_map)

    @model_validator(mode="after")
    def _is_quantized_once(self) -> DeviceSettings:
        if self.gguf and self.quantization:
            raise ValueError("gguf and quantization can't both be set: the file is quantized already")
        return self


class Model(_Part):
    """One entry of the catalog."""

    name: str = Field(description="owner/name, from the table's header")
    source: str = Field(default="", description="a diffusers folder, a hub id, or one .safetensors file")
    variant: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_]*$",
        description="which of several weight files is read, such as fp16 for `model.fp16.safetensors`; default: the "
        "full weights, or the only variant there is",
    )
    config: str = Field(
        default="",
        description="for a `source` that is one file: a diffusers folder or hub id of the same family; default: the "
        "one that diffusers recognizes the file by, from the hub",
    )
    version: str = Field(
        default="1",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="letters, digits, `.`, `_`, `-`; change it with the weights. Replicate's clients cut "
        "`owner/name:version` and send the version alone, so give each model a different one",
    )
    description: str = Field(default="", description="shown by GET /v1/models")
    aliases: tuple[str, ...] = Field(default=(), description="other names that requests may use, such as dall-e-3")
    engine: Literal["diffusers", "blank"] = Field(
        default="diffusers", description="blank draws plain sheets without weights, for tests"
    )
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        default="bfloat16", description="the data type of the weights on the device"
    )
    takes: tuple[Literal["image", "mask"], ...] = Field(
        default=(), description="pictures that requests may give: a start image, and a mask of what is redrawn"
    )
    loras: dict[str, LoraEntry] = Field(default={}, description="LoRAs that requests may name")
    defaults: Defaults = Field(default=Defaults(), description="values for inputs that a request leaves out")
    limits: Limits = Field(default=Limits(), description="what a request may ask for; anything beyond is 422")
    max_batch: int = Field(default=8, ge=1, le=64, description="the most images in one step, even if more would pay")
    on_blank_image: Literal["fail", "pass"] = Field(
        default="fail",
        description="if the safety checker blackened an image, or it is NaN: fail the prediction, or pass it on",
    )
    warm: Warm = Field(default=Warm(), description="workers that stay ready when nothing waits")
    device: DeviceSettings = Field(default=DeviceSettings(), description="how the weights are kept on the device")
    blank: Blank = Field(default=Blank(), description="settings of the blank engine")

    @model_validator(mode="after")
    def _loras_are_not_compiled(self) -> Model:
        if self.loras and self.device.compiles:
            raise ValueError('loras and compilation (compile, or preset = "fast") can\'t be combined')
        return self

    @model_validator(mode="after")
    def _input_images_are_taken(self) -> Model:
        for key, value, unset in (
            ("min_input_images", self.limits.min_input_images, 0),
            ("max_input_images", self.limits.max_input_images, 1),
        ):
            if value != unset and "image" not in self.takes:
                raise ValueError(f'limits.{key} needs "image" in takes')
        if self.limits.min_input_images and self.device.compiles:  # a worker compiles with a text alone
            raise ValueError("limits.min_input_images and compilation can't be combined")
        return self

    @model_validator(mode="after")
    def _one_file_has_no_variants(self) -> Model:
        if not self.is_single_file:
            if self.config:
                raise ValueError("config is only for a source that is one .safetensors file")
            return self
        device = self.device
        for key, value in (
            ("variant", self.variant),
            ("device.quantization", device.quantization),
            ("device.gguf", device.gguf),
            ("device.device_map", device.device_map),
        ):
            if value:
                raise ValueError(f"{key} needs a source that is a folder or a hub id, not one file")
        return self

    @property
    def takes_several_images(self) -> bool:
        """Whether it looks at the images of a request. Other models start from the one image that they take."""
        return self.limits.max_input_images > 1

    @property
    def is_single_file(self) -> bool:
        """Whether the weights are one file, as Civitai and ComfyUI have them."""
        return self.source.endswith(".safetensors")

    @property
    def typical(self) -> Parameters:
        """What a request that says nothing asks for."""
        return Parameters(
            prompt="",
            width=self.defaults.width,
            height=self.defaults.height,
            num_inference_steps=self.defaults.num_inference_steps,
            guidance_scale=self.defaults.guidance_scale,
            seed=0,
        )

    @property
    def queue_name(self) -> str:
        return queue_name_of(self.name)

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]

    @property
    def version_id(self) -> str:
        """A version that names its model too: Replicate's clients send `owner/name:version` as the version alone."""
        return hashlib.sha256(f"{self.name}:{self.version}".encode()).hexdigest()

    @field_validator("name")
    @classmethod
    def _owner_and_name(cls, value: str) -> str:
        import re

        if not re.match(NAME, value):
            raise ValueError("needs to be owner/name, in lower case")
        return value


@dataclass(frozen=True)
class Catalog:
    """All models, by name and by alias."""

    models: dict[str, Model]
    changed_at: datetime = NEVER  # of the file: what its versions are dated with

    def find(self, reference: str) -> Model:
        """The model that `owner/name`, `owner/name:version`, an alias or a version by itself means.

        Raises UnknownModel, whose message names what there is.
        """
        name, _, version = reference.partition(":")
        model = self.models.get(name.lower()) or self._by_alias(reference) or self._by_alias(name)
        if model is None:
            return self._by_version(reference)
        if version and reference not in model.aliases and version not in (model.version, model.version_id):
            raise UnknownModel(f"{model.name} has no version {version!r}; its version is {model.version!r}")
        return model

    def names(self) -> str:
        return ", ".join(sorted(self.models))

    def _by_alias(self, reference: str) -> Model | None:
        return next((model for model in self.models.values() if reference in model.aliases), None)

    def _by_version(self, version: str) -> Model:
        """Replicate's clients cut `owner/name:version` and send what is behind the colon."""
        models = [model for model in self.models.values() if version in (model.version, model.version_id)]
        if not models:
            raise UnknownModel(f"there is no model {version!r}; this deployment serves {self.names()}")
        if len(models) > 1:
            raise UnknownModel(
                f"version {version!r} is one of several models ({', '.join(sorted(model.name for model in models))}): "
                "name the model too, leave the version out, or take the version's id (latest_version.id) from "
                "GET /v1/models. Replicate's clients cut `owner/name:version` and send the version alone"
            )
        return models[0]


def load_catalog(path: Path) -> Catalog:
    """Read `models.toml`. Relative paths start from its folder.

    A `source` counts as a path if such a folder exists, it begins with a dot or it is a .safetensors file; else it is a
    hub id. So does `config`.

    Raises OperatorError, which names the file, the entry and what is wrong with it.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        changed_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        raise OperatorError(f"There is no catalog {path}: set MODELS (or --models) to a models.toml.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OperatorError(f"The catalog {path} can't be read: {error}.") from None
    for key in tables:
        if key != "models":
            raise OperatorError(f"The catalog {path}: {key}: {_no_such_key(key, ['models'])}")
    entries = tables.get("models", {})
    if not isinstance(entries, dict) or not entries:
        raise OperatorError(f'The catalog {path} has no models: add a [models."owner/name"] table.')
    models = {name: _read_model(path, name, entry) for name, entry in entries.items()}
    _refuse_ambiguous_aliases(path, models)
    return Catalog(models, changed_at)


def _read_model(path: Path, name: str, entry: Any) -> Model:
    if not isinstance(entry, dict):
        raise OperatorError(f'The catalog {path}: models."{name}" needs to be a table.')
    if "name" in entry:
        raise OperatorError(f'The catalog {path}: models."{name}": name: the name stands in the header of the table.')
    try:
        model = Model(name=name, **entry)
    except ValidationError as error:
        raise OperatorError(f'The catalog {path}: models."{name}": {_first_problem(error)}') from None
    if model.engine == "diffusers" and not model.source:
        raise OperatorError(f'The catalog {path}: models."{name}": source: needs a folder or a hub id.')
    limits, size = model.limits, (model.defaults.width, model.defaults.height)
    if size[0] * size[1] > limits.max_pixels or any(side % limits.multiple_of for side in size):
        raise OperatorError(
            f'The catalog {path}: models."{name}": its default size {size[0]}x{size[1]} breaks its own limits.'
        )
    for key, reference in (("source", model.source), ("config", model.config)):
        beside = path.parent / Path(reference).expanduser()
        is_file = key == "source" and model.is_single_file
        if reference and (is_file or beside.is_dir() or reference.startswith(("./", "../"))):
            model = model.model_copy(update={key: str(beside.resolve())})
    if model.device.gguf:
        file = (path.parent / Path(model.device.gguf).expanduser()).resolve()
        model = model.model_copy(update={"device": model.device.model_copy(update={"gguf": str(file)})})
    loras = {lora_name: _beside(path, lora) for lora_name, lora in model.loras.items()}
    return model.model_copy(update={"loras": loras})


def _beside(path: Path, lora: LoraEntry) -> LoraEntry:
    """The same with the whole path of its file. What is no file, and doesn't look like one, is a hub id."""
    file = path.parent / Path(lora.source).expanduser()
    if file.is_file() or lora.source.startswith(("./", "../", "/", "~")) or lora.source.endswith(".safetensors"):
        return lora.model_copy(update={"source": str(file.resolve())})
    return lora


def _refuse_ambiguous_aliases(path: Path, models: dict[str, Model]) -> None:
    taken: dict[str, str] = {}
    for model in models.values():
        for alias in model.aliases:
            if alias in taken or alias in models:
                raise OperatorError(
                    f"The catalog {path}: {alias!r} names both {taken.get(alias, alias)} and {model.name}."
                )
            taken[alias] = model.name


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *tables, key = problem["loc"]
        return f"{where}: {_no_such_key(str(key), _keys_of([str(table) for table in tables]))}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}."


def _keys_of(tables: Sequence[str]) -> list[str]:
    """The keys of a model's entry, or of a table in it."""
    part: type[BaseModel] = Model
    names = iter(tables)
    for table in names:
        inner = part.model_fields[table].annotation
        if get_origin(inner) is dict:  # tables by name
            next(names, None)
            inner = get_args(inner)[1]
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        part = inner
    return [key for key in part.model_fields if key != "name"]


def _no_such_key(key: str, keys: Sequence[str]) -> str:
    close = get_close_matches(key, keys, n=1)
    return f"there is no such key; did you mean {close[0]}?" if close else f"no such key; it takes {', '.join(keys)}."
