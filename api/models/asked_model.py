"""Which model of the catalog a request is for."""

from __future__ import annotations

from api.errors import InvalidInput, NotFound
from api.schemas import PredictionRequest
from api.services import services
from storage.catalog import Model
from storage.errors import UnknownModel


def model_in_path(reference: str) -> Model:
    """The model that a path names: owner/name, owner/name:version, or an alias. Raises NotFound."""
    try:
        return services().catalog.find(reference)
    except UnknownModel as error:
        raise NotFound(str(error)) from None


def model_asked_for(asked: PredictionRequest, in_path: Model | None = None) -> Model:
    """The model that the path, `model` or `version` names; all that are there must agree. Raises InvalidInput."""
    if in_path is None and asked.model is None:
        if asked.version is None:
            raise InvalidInput("model", "is required: owner/name, or `version` as owner/name:version")
        return _known("version", asked.version)
    model = in_path or _known("model", asked.model or "")
    if in_path is not None and asked.model is not None and _known("model", asked.model) is not model:
        raise InvalidInput("model", f"{asked.model!r} is another model than {model.name}, which the path names")
    if asked.version is not None:
        names_a_model = "/" in asked.version or ":" in asked.version
        other = _known("version", asked.version if names_a_model else f"{model.name}:{asked.version}")
        if other is not model:
            raise InvalidInput(
                "version", f"{asked.version!r} belongs to {other.name}, but the request is for {model.name}"
            )
    return model


def _known(field: str, reference: str) -> Model:
    try:
        return services().catalog.find(reference)
    except UnknownModel as error:
        raise InvalidInput(field, str(error)) from None
