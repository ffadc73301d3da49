"""The catalog, as Replicate's clients and as OpenAI's read it: both shapes fit in one object."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from api.auth import needs
from api.compression import compressed
from api.docs.answers import OpenAIError
from api.docs.model_schema import COG_VERSION, openapi_schema
from api.docs.operation import documented
from api.models.asked_model import model_in_path
from api.parsing.list_query import query
from api.services import services
from storage.access.scopes import Scope
from storage.catalog import Model
from storage.predictions.render import dump, timestamp

blueprint = Blueprint("models", __name__)


@blueprint.get("/models")
@documented("The models that are served", {200: None}, section="Models", errors=(422,))
@needs(Scope.READ)
def list_() -> Response:
    """`results` is what Replicate's clients read, `data` what OpenAI's do."""
    query()
    found = [_model(model) for model in services().catalog.models.values()]
    return compressed(_answer({"object": "list", "data": found, "next": None, "previous": None, "results": found}))


@blueprint.get("/models/<alias>")
@documented("A model by its alias", {200: None}, section="Models", errors=(404,), error=OpenAIError)
@needs(Scope.READ)
def get_alias(alias: str) -> Response:
    """OpenAI's `models.retrieve("dall-e-3")`."""
    return _answer(_model(model_in_path(alias)) | {"id": alias})


@blueprint.get("/models/<owner>/<name>")
@documented("A model", {200: None}, section="Models", errors=(404,))
@needs(Scope.READ)
def get(owner: str, name: str) -> Response:
    return _answer(_model(model_in_path(f"{owner}/{name}")))


@blueprint.get("/models/<owner>/<name>/versions")
@documented("Its versions", {200: None}, section="Models", errors=(404, 422))
@needs(Scope.READ)
def versions(owner: str, name: str) -> Response:
    query()
    return _answer({"next": None, "previous": None, "results": [_version(model_in_path(f"{owner}/{name}"))]})


@blueprint.get("/models/<owner>/<name>/versions/<version>")
@documented("A version and its inputs", {200: None}, section="Models", errors=(404,))
@needs(Scope.READ)
def get_version(owner: str, name: str, version: str) -> Response:
    return _answer(_version(model_in_path(f"{owner}/{name}:{version}")))


def _model(model: Model) -> dict[str, Any]:
    public_url = services().settings.public_url
    return {
        "url": f"{public_url}/v1/models/{model.name}",
        "owner": model.owner,
        "name": model.name.partition("/")[2],
        "description": model.description,
        "visibility": "private",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": services().run_counts.now().get(model.name, 0),
        "cover_image_url": None,
        "default_example": None,
        "is_official": False,
        "latest_version": _version(model),
        # OpenAI's:
        "id": model.name,
        "object": "model",
        "created": int(services().catalog.changed_at.timestamp()),
        "owned_by": model.owner,
        "aliases": list(model.aliases),
    }


def _version(model: Model) -> dict[str, Any]:
    return {
        "id": model.version_id,
        "version": model.version,
        "created_at": timestamp(services().catalog.changed_at),
        "cog_version": COG_VERSION,
        "openapi_schema": openapi_schema(model),
    }


def _answer(body: dict[str, Any]) -> Response:
    return Response(dump(body), content_type="application/json")
