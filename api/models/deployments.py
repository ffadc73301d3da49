"""Replicate's deployments: how many workers a model has at least and at most, under a name to draw with.

A worker belongs to a model, not to a deployment. So predictions of a deployment share the workers of its model with all
others, and of several deployments of one model the largest numbers count.
"""

from __future__ import annotations

import re
from typing import Any

import structlog
from flask import Blueprint, Response

from api.account import USERNAME, account
from api.auth import needs
from api.docs.answers import Deployment, DeploymentPage, Prediction
from api.docs.operation import SUBMIT_ERRORS, documented
from api.docs.parameters import SUBMIT_HEADERS
from api.errors import InvalidInput, NotFound
from api.models.asked_model import model_in_path
from api.parsing.json_body import json_object
from api.parsing.list_query import query
from api.parsing.validation import validated
from api.pictures.large_bodies import may_carry_pictures
from api.predictions.create import EXAMPLE, create_prediction
from api.schemas import DEPLOYMENT_NAME, DeploymentChange, DeploymentRequest, PredictionRequest
from api.services import services
from storage.access.scopes import Scope
from storage.catalog import Model
from storage.errors import UnknownModel
from storage.postgres.database import Connection, Row
from storage.predictions.render import dump, timestamp
from storage.workers.deployments import (
    Release,
    change_deployment,
    create_deployment,
    delete_deployment,
    find_deployment,
    list_deployments,
)

log = structlog.get_logger(__name__)

blueprint = Blueprint("deployments", __name__)

NAME = re.compile(DEPLOYMENT_NAME, re.ASCII)


@blueprint.get("/deployments")
@documented("The deployments", {200: DeploymentPage}, section="Deployments", errors=(422,))
@needs(Scope.READ)
def list_() -> Response:
    """All on one page."""
    query()
    with services().pool.connection() as conn:
        found = list_deployments(conn)
    return _answer({"next": None, "previous": None, "results": [_deployment(row) for row in found]})


@blueprint.post("/deployments")
@documented(
    "Keep workers of a model ready under a name",
    {200: Deployment},
    section="Deployments",
    body=DeploymentRequest,
    errors=(400, 413, 422),
    example={"name": "pictures", "hardware": "gpu", "min_instances": 1, "max_instances": 2},
    details="It needs the scope `admin`.",
)
@needs(Scope.ADMIN)
def create() -> Response:
    asked = validated(DeploymentRequest, json_object())
    try:
        model = services().catalog.find(asked.model)
    except UnknownModel as error:
        raise InvalidInput("model", str(error)) from None
    version = _version_of(model, asked.version)
    release = Release(model.name, version, asked.hardware, asked.min_instances, asked.max_instances)
    _require_order(release)
    with services().pool.connection() as conn:
        row = create_deployment(conn, asked.name, release)
    if row is None:
        raise InvalidInput("name", f"there is a deployment {asked.name!r} already; change it with PATCH")
    log.info("deployment.created", deployment=asked.name, **vars(release))
    return _answer(_deployment(row))


@blueprint.get("/deployments/<owner>/<deployment>")
@documented("A deployment", {200: Deployment}, section="Deployments", errors=(404,))
@needs(Scope.READ)
def get(owner: str, deployment: str) -> Response:
    with services().pool.connection() as conn:
        return _answer(_deployment(_find(conn, owner, deployment)))


@blueprint.patch("/deployments/<owner>/<deployment>")
@documented(
    "Change a deployment",
    {200: Deployment},
    section="Deployments",
    body=DeploymentChange,
    errors=(400, 404, 413, 422),
    example={"min_instances": 0},
    details="It needs the scope `admin`.",
)
@needs(Scope.ADMIN)
def change(owner: str, deployment: str) -> Response:
    """A new release. What isn't given stays as it is."""
    asked = validated(DeploymentChange, json_object())
    with services().pool.connection() as conn, conn.transaction():
        row = _find(conn, owner, deployment, to_change=True)
        version = row["version"] if asked.version is None else _version_of(_model_of(row), asked.version)
        release = Release(
            row["model"],
            version,
            row["hardware"] if asked.hardware is None else asked.hardware,
            row["min_instances"] if asked.min_instances is None else asked.min_instances,
            row["max_instances"] if asked.max_instances is None else asked.max_instances,
        )
        _require_order(release)
        changed = change_deployment(conn, deployment, release)
    log.info("deployment.changed", deployment=deployment, **vars(release))
    return _answer(_deployment(changed))


@blueprint.delete("/deployments/<owner>/<deployment>")
@documented(
    "Delete a deployment", {204: None}, section="Deployments", errors=(404,), details="It needs the scope `admin`."
)
@needs(Scope.ADMIN)
def delete(owner: str, deployment: str) -> Response:
    with services().pool.connection() as conn:
        _find(conn, owner, deployment)
        if not delete_deployment(conn, deployment):
            raise _no_such(owner, deployment)
    log.info("deployment.deleted", deployment=deployment)
    return Response(status=204)


@blueprint.post("/deployments/<owner>/<deployment>/predictions")
@documented(
    "Draw with the model of a deployment",
    {201: Prediction},
    section="Deployments",
    body=PredictionRequest,
    headers=SUBMIT_HEADERS,
    errors=(*SUBMIT_ERRORS, 404),
    example=EXAMPLE,
)
@needs(Scope.DRAW)
@may_carry_pictures
def draw(owner: str, deployment: str) -> Response:
    with services().pool.connection() as conn:
        row = _find(conn, owner, deployment)
    return create_prediction(_model_of(row))


def _find(conn: Connection, owner: str, name: str, *, to_change: bool = False) -> Row:
    """Raises NotFound."""
    row = find_deployment(conn, name, to_change=to_change) if owner == USERNAME and NAME.fullmatch(name) else None
    if row is None:
        raise _no_such(owner, name)
    return row


def _no_such(owner: str, name: str) -> NotFound:
    hint = "" if owner == USERNAME else f"; the owner of all deployments is {USERNAME}"
    return NotFound(f"there is no deployment {f'{owner}/{name}'!r}{hint}")


def _model_of(row: Row) -> Model:
    """Raises NotFound if the catalog has lost it."""
    return model_in_path(row["model"])


def _version_of(model: Model, asked: str | None) -> str:
    """The id of the model's version, which is the only one that is served. Raises InvalidInput."""
    if asked is None:
        return model.version_id
    try:
        found = services().catalog.find(asked if "/" in asked else f"{model.name}:{asked}")
    except UnknownModel as error:
        raise InvalidInput("version", str(error)) from None
    if found is not model:
        raise InvalidInput("version", f"{asked!r} belongs to {found.name}, but the deployment is of {model.name}")
    return model.version_id


def _require_order(release: Release) -> None:
    if release.min_instances > release.max_instances:
        raise InvalidInput(
            "min_instances", f"{release.min_instances} is more than max_instances, which is {release.max_instances}"
        )


def _deployment(row: Row) -> dict[str, Any]:
    """Replicate's object."""
    return {
        "owner": USERNAME,
        "name": row["name"],
        "current_release": {
            "number": row["release"],
            "model": row["model"],
            "version": row["version"],
            "created_at": timestamp(row["released_at"]),
            "created_by": account(),
            "configuration": {
                "hardware": row["hardware"],
                "min_instances": row["min_instances"],
                "max_instances": row["max_instances"],
            },
        },
    }


def _answer(body: dict[str, Any]) -> Response:
    return Response(dump(body), content_type="application/json")
