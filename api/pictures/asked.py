"""Which pictures a request asks to start from, held against what its model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from api.errors import InvalidInput
from api.schemas import PredictionInput
from storage.catalog import Catalog, Model

Role = Literal["image", "mask"]  # as in `Model.takes`
ROLES: tuple[Role, ...] = ("image", "mask")
# What clients may call them: our name, which is Replicate's, and fal's.
FIELDS: dict[Role, tuple[str, str]] = {"image": ("image", "image_url"), "mask": ("mask", "mask_url")}
ALL_FIELDS = tuple(field for role in ROLES for field in FIELDS[role])


@dataclass(frozen=True)
class AskedPicture:
    """One of them, as the request names it."""

    field: str  # `input.image`
    value: str  # a URL, or the description of what the request carried


def asked_pictures(model: Model, catalog: Catalog, asked: PredictionInput) -> dict[Role, AskedPicture]:
    """The pictures of a request. Raises InvalidInput where the model doesn't take them."""
    found: dict[Role, AskedPicture] = {}
    for role in ROLES:
        given = [(name, value) for name in FIELDS[role] if (value := getattr(asked, name))]
        if len(given) > 1:
            raise InvalidInput(f"input.{given[1][0]}", f"is another name of {given[0][0]}: send one of the two")
        if given:
            found[role] = AskedPicture(f"input.{given[0][0]}", given[0][1])
            _check_taken(model, catalog, role, found[role].field)
    if "mask" in found and "image" not in found:
        raise InvalidInput(found["mask"].field, "needs an image, of which it says what is drawn anew")
    return found


def _check_taken(model: Model, catalog: Catalog, role: Role, field: str) -> None:
    if role not in model.takes:
        able = sorted(other.name for other in catalog.models.values() if role in other.takes)
        these = f"these models do: {', '.join(able)}" if able else "no model of this deployment does"
        raise InvalidInput(field, f"{model.name} takes no {role}; {these}")
