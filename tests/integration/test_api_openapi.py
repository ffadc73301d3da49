"""The documentation: complete, true to what answers look like, and served without anything from elsewhere."""

from __future__ import annotations

import re

from flask import Flask
from flask.testing import FlaskClient

from api.docs.operation import operations_of
from storage.postgres.database import Connection
from storage.predictions.finish import finish
from storage.predictions.render import Renderer
from tests.integration.openapi_schemas import validator
from tests.support.api_app import post, submit
from tests.support.making import claim_one, succeeded

# Pages for people with what they load, and the document itself.
NOT_DOCUMENTED = {"/", "/status", "/assets/<version>/<path:name>", "/docs", "/openapi.json"}


def test_every_route_is_documented_once_with_its_prefix(app: Flask) -> None:
    routes = {
        (method.lower(), re.sub(r"<([^>]+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in NOT_DOCUMENTED
    }
    documented = [(each.method, each.path) for each in operations_of(app)]
    assert len(set(documented)) == len(documented)
    at_the_root = {(method, path) for method, path in routes if not path.startswith("/v1")}
    assert {(method, path.removeprefix("/v1")) for method, path in documented} >= at_the_root
    assert set(documented) == {each for each in routes if each[1].startswith("/v1")} | {
        ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"),
    }  # fmt: skip


def test_real_answers_are_as_documented(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    document = client.get("/openapi.json").get_json()
    submit(client)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    validator(document, "Prediction").validate(client.get(f"/v1/predictions/{claimed.prediction_id}").get_json())
    validator(document, "PredictionPage").validate(client.get("/v1/predictions").get_json())
    validator(document, "Usage").validate(client.get("/v1/usage?by=day,token,model").get_json())
    validator(document, "ProblemDocument").validate(post(client, input={}).get_json())


def test_every_example_works_as_it_stands(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    for path in ("/v1/predictions", "/v1/models/{owner}/{name}/predictions"):
        operation = document["paths"][path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        for parameter in operation["parameters"]:
            path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example")))
        assert client.post(path, json=example).status_code == 201


def test_the_limits_of_the_models_are_in_the_document(client: FlaskClient) -> None:
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    inputs = schemas["Input.darkroom.blank"]["properties"]
    assert inputs["prompt"]["maxLength"] == 100
    width = inputs["width"]["anyOf"][0]
    assert (width["minimum"], width["maximum"], width["multipleOf"]) == (64, 512, 16)
    assert "dall-e-3" in schemas["PredictionRequest"]["properties"]["model"]["anyOf"][0]["enum"]


def test_the_page_loads_nothing_and_names_every_operation(app: Flask, client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"<script|src=|<link|@import|url\(", page.text)
    for each in operations_of(app):
        assert each.path in page.text
    assert "multiples of 16" in page.text
    assert "&lt;" not in page.text.split("</style>")[1]
