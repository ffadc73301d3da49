"""`/openapi.json`: from the pydantic models that validate requests, and the limits of the models that are served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.account import USERNAME
from api.docs.model_schema import openapi_schema
from api.docs.operation import JSON, SECTIONS, Operation
from api.docs.parameters import PARAMETERS
from api.schemas import PredictionInput
from storage.catalog import Catalog, Model

REF = "#/components/schemas/{model}"
TITLES = {
    400: "The body is no JSON object",
    401: "No token, or none that is known",
    403: "The token lacks the scope, the signature is wrong, the link has expired, or a web page of another origin "
    "sent the request",
    404: "Not there, or another token's",
    409: "It was canceled",
    410: "Its data was removed, or the bucket has lost its file",
    412: "The file is not the one that `If-Match` names",
    413: "The body is too large",
    415: "The Content-Type is not JSON",
    421: "While no token is needed: the `Host` is none of the API's own",
    416: "The range begins behind the end of the file: `Content-Range` says its size",
    422: "A value that is not taken: `detail` names the field, the value and the limit",
    426: "This is a WebSocket",
    429: "Over the token's limits: come again after `Retry-After` seconds",
    500: "It failed, or something broke here",
    503: "Postgres, the bucket or a free place is not there: come again after `Retry-After` seconds",
    504: "It was not done in time",
}


def document(operations: Sequence[Operation], catalog: Catalog, public_url: str, *, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of this deployment."""
    used = {kind for each in operations for kind in (*each.answers.values(), each.body, each.form, each.error) if kind}
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in sorted(used, key=lambda kind: kind.__name__)], ref_template=REF
    )
    components = schemas["$defs"]
    inputs = {f"Input.{name.replace('/', '.')}": _input(model) for name, model in sorted(catalog.models.items())}
    components |= inputs
    _fit(components["PredictionRequest"], catalog, list(inputs))
    components["DeploymentRequest"]["properties"]["model"] |= {"enum": _references(catalog)}
    components["ImageRequest"]["properties"]["model"]["anyOf"][0] |= {"enum": _references(catalog)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, catalog)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Darkroom",
            "version": version,
            "description": "Text-to-image on your own GPUs, with the APIs of Replicate and OpenAI. The routes under "
            "`/v1` are there without it too.",
        },
        "servers": [{"url": public_url}],
        "tags": [{"name": name} for name in SECTIONS],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`dr_…`"}},
        },
    }


def _operation(operation: Operation, catalog: Catalog) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.method} {operation.path}",
        "tags": [operation.section],
        "summary": operation.summary,
        "description": operation.details,
        "parameters": list(_parameters(operation, catalog)),
        "responses": {str(status): _answer(operation, status, kind) for status, kind in operation.answers.items()}
        | {str(status): _error(operation, status) for status in _errors(operation)},
    }
    if operation.is_open:
        described["security"] = []
    if operation.body is not None:
        example = operation.example or {}
        if "{owner}" not in operation.path and "model" in operation.body.model_fields:
            example = {"model": min(catalog.models)} | example
        content = {JSON: {"schema": _ref(operation.body), "example": example}}
        described["requestBody"] = {"required": operation.needs_body, "content": content}
    if operation.form is not None:
        content = {"multipart/form-data": {"schema": _ref(operation.form)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _errors(operation: Operation) -> list[int]:
    common = [] if operation.path in ("/healthz", "/readyz") else [421, 500, 503]
    body = [] if operation.body is None else [415]
    return sorted({*operation.errors, *common, *body, *([] if operation.is_open else [401, 403])})


def _answer(operation: Operation, status: int, kind: type[BaseModel] | None) -> dict[str, Any]:
    content = {operation.media: {"schema": _ref(kind)} if kind else {}}
    return {"description": "Done"} | ({} if status == 204 else {"content": content})


def _error(operation: Operation, status: int) -> dict[str, Any]:
    media = "application/problem+json" if operation.error.__name__ == "ProblemDocument" else JSON
    return {"description": TITLES[status], "content": {media: {"schema": _ref(operation.error)}}}


def _parameters(operation: Operation, catalog: Catalog) -> Iterable[dict[str, Any]]:
    model = catalog.models[min(catalog.models)]
    if "{deployment}" in operation.path:
        known = {"owner": USERNAME}
    else:
        known = {"owner": model.owner, "name": model.name.partition("/")[2], "version": model.version}
    for part in operation.path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            example = {"example": known[name]} if name in known and "files" not in operation.path else {}
            yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} | example
    for where, names in (("header", operation.headers), ("query", operation.query)):
        for name in names:
            about = operation.parameters.get(name) or PARAMETERS[name]
            yield {"name": name, "in": where, "required": False, "schema": {"type": "string"} | about}


def _fit(request: dict[str, Any], catalog: Catalog, inputs: list[str]) -> None:
    """What this deployment's catalog makes of the request: the names that it knows, and its models' inputs."""
    properties = request["properties"]
    refs = [{"$ref": REF.format(model=name)} for name in inputs]
    properties["input"] = refs[0] if len(refs) == 1 else {"anyOf": refs}
    properties["model"]["anyOf"][0] |= {"enum": _references(catalog)}
    versions = sorted({model.version for model in catalog.models.values()})
    properties["version"]["anyOf"][0] |= {"enum": [*versions, *_references(catalog)]}
    properties["webhook"]["anyOf"][0] |= {"format": "uri", "pattern": "^https?://", "example": "https://example.com/"}


def _references(catalog: Catalog) -> list[str]:
    names = []
    for name, model in sorted(catalog.models.items()):
        names += [name, f"{name}:{model.version}", *model.aliases]
    return names


def _input(model: Model) -> dict[str, Any]:
    """The inputs of one model; those that may be null or empty say so, which its Cog schema can't."""
    schema: dict[str, Any] = openapi_schema(model)["components"]["schemas"]["Input"]
    plain = PredictionInput.model_json_schema()["properties"]
    for name, described in schema["properties"].items():
        others = plain[name].get("anyOf", [])[1:]  # null, and whatever else stands for a value that is left open
        if others:
            schema["properties"][name] = {"anyOf": [described, *others]}
    return schema


def _ref(kind: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=kind.__name__)}
