"""Which pictures a request asks to start from, held against what its model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from api.errors import InvalidInput
from api.schemas import PredictionInput
from storage.catalog import Catalog, Model

Role = Literal["image", "mask"]  # as in `Model.takes`
# What clients may call them: our names, those of Replicate's FLUX.2 (input_images), and fal's. One or a list of some.
FIELDS: dict[Role, tuple[str, ...]] = {
    "image": ("image", "images", "input_images", "image_url", "image_urls"),
    "mask": ("mask", "mask_url"),
}
ALL_FIELDS = tuple(field for fields in FIELDS.values() for field in fields)


@dataclass(frozen=True)
class AskedPicture:
    """One of them, as the request names it."""

    field: str  # `input.image`, `input.images.0`
    value: str  # a URL, or the description of what the request carried


def asked_pictures(model: Model, catalog: Catalog, asked: PredictionInput) -> dict[str, AskedPicture]:
    """The pictures of a request: `image`, `image_2` and so on, and `mask`.

    Raises InvalidInput where the model doesn't take them, or not so many, or needs one.
    """
    images, masks = _given("image", asked), _given("mask", asked)
    given: tuple[tuple[Role, list[AskedPicture]], ...] = (("image", images), ("mask", masks))
    for role, pictures in given:
        if pictures:
            _check_taken(model, catalog, role, pictures[0].field)
    _check_number(model, catalog, images)
    if masks and not images:
        raise InvalidInput(masks[0].field, "needs an image: a mask says which part of one is redrawn")
    found = {image_name(number): picture for number, picture in enumerate(images)}
    return found | ({"mask": masks[0]} if masks else {})


def image_name(number: int) -> str:
    """What the image with this number (from 0) is called beside the others."""
    return "image" if number == 0 else f"image_{number + 1}"


def _given(role: Role, asked: PredictionInput) -> list[AskedPicture]:
    named = [(name, value) for name in FIELDS[role] if (value := getattr(asked, name))]
    if len(named) > 1:
        raise InvalidInput(f"input.{named[1][0]}", f"is another name of {named[0][0]}: send one of the two")
    return [
        AskedPicture(f"input.{name}.{number}" if isinstance(value, list) else f"input.{name}", each)
        for name, value in named
        for number, each in enumerate(value if isinstance(value, list) else [value])
    ]


def _check_taken(model: Model, catalog: Catalog, role: Role, field: str) -> None:
    if role not in model.takes:
        able = sorted(other.name for other in catalog.models.values() if role in other.takes)
        these = f"these models do: {', '.join(able)}" if able else "no model of this deployment does"
        raise InvalidInput(field, f"{model.name} takes no {role}; {these}")


def _check_number(model: Model, catalog: Catalog, images: list[AskedPicture]) -> None:
    limits, number = model.limits, len(images)
    if number < limits.min_input_images:
        raise InvalidInput("input.image", f"is required: {model.name} only edits pictures")
    if number <= limits.max_input_images:
        return
    able = sorted(
        f"{other.name} (up to {other.limits.max_input_images})"
        for other in catalog.models.values()
        if "image" in other.takes and other.limits.max_input_images >= number
    )
    most = "one image" if limits.max_input_images == 1 else f"at most {limits.max_input_images} images"
    these = f"; these models take more: {', '.join(able)}" if able else ""
    raise InvalidInput(
        images[0].field.removesuffix(".0"), f"{number} images were sent; {model.name} takes {most}{these}"
    )
