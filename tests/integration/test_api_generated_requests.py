"""Requests that schemathesis makes up from the OpenAPI document, right ones and wrong ones.

No 5xx, no status that is not documented, no right request refused, no wrong one accepted, no traceback.
`GENERATED_REQUESTS=20000` is the long form; `make test` sends about 1,000.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode

from api.docs.operation import Operation, operations_of
from api.settings import ApiSettings
from tests.integration.openapi_schemas import validator
from tests.integration.worker_running import worker
from tests.support.api_app import CATALOG, serving

REQUESTS = int(os.environ.get("GENERATED_REQUESTS", "1000"))
ENDLESS = "/v1/events"  # its answer has no end
OPENAIS = "/v1/images/generations"  # it waits for its picture
# What a schema can't say: fields that have to fit each other, and names that have to resolve.
BETWEEN_FIELDS = {
    "model",
    "version",
    "input.width",
    "input.height",
    "input.aspect_ratio",
    "input.size",
    "webhook",
    "cursor",
    "Idempotency-Key",
    "name",  # of a deployment, which must not exist yet
    "min_instances",
}
TOO_LARGE = "bytes as JSON"  # of metadata as a whole, which a schema can't say
# OpenAI's names for what only the model's limits say; and a name that leads to no model.
LIMITS_OF_THE_MODEL = {
    "prompt",
    "negative_prompt",
    "n",
    "size",
    "num_inference_steps",
    "guidance_scale",
    "lora_weights",
}
ROUTED_ELSEWHERE = {404, 405, 308}  # a path parameter such as ".." or "a/b" is another route


@pytest.mark.timeout(3600 if REQUESTS > 1000 else 300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_generated_requests_are_answered_as_documented(app: Flask, mode: GenerationMode) -> None:
    client = app.test_client()
    document = client.get("/openapi.json").get_json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [each for each in operations_of(app) if each.path not in (OPENAIS, ENDLESS) and each.form is None]
    bodies = [each for each in operations if each.body is not None]
    for operation in operations:
        # Half of all requests carry a body: that is where most can go wrong.
        share = 0.25 / len(bodies) if operation in bodies else 0.25 / (len(operations) - len(bodies))
        _send(client, document, schema, operation, mode, count=max(5, round(REQUESTS * share)))


@pytest.mark.timeout(3600 if REQUESTS > 1000 else 300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_generated_requests_to_openais_route_are_answered_as_documented(
    api_settings: ApiSettings, tmp_path: Path, mode: GenerationMode
) -> None:
    """Beside a worker whose drawings take no time; whether it draws or the cache of results answers is all the same.

    The catalog has one model: the document names them all, and nobody would draw for another.
    """
    catalog = tmp_path / "one-model.toml"
    catalog.write_text(CATALOG.partition('[models."darkroom/other"]')[0])
    with (
        worker(api_settings, tmp_path, step_s=0.0),
        serving(api_settings.model_copy(update={"openai_wait_s": 60, "models": catalog})) as app,
    ):
        client = app.test_client()
        document = client.get("/openapi.json").get_json()
        schema = schemathesis.openapi.from_dict(document)
        [operation] = [each for each in operations_of(app) if each.path == OPENAIS]
        _send(client, document, schema, operation, mode, count=max(5, round(REQUESTS * 0.05)))


def _send(
    client: FlaskClient,
    document: dict[str, Any],
    schema: Any,
    operation: Operation,
    mode: GenerationMode,
    *,
    count: int,
) -> None:
    described = document["paths"][operation.path][operation.method]
    request_schema = validator(document, operation.body.__name__) if operation.body else None
    if mode is GenerationMode.NEGATIVE and not (described["parameters"] or operation.body):
        return

    @seed(count)
    @hypothesis_settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[operation.path][operation.method.upper()].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        headers = {name: value for name, value in (case.headers or {}).items() if name != "Prefer"}  # would wait
        body = _without_lookups(case.body) if operation.body else None
        sent = body if isinstance(body, bytes) else json.dumps(body, default=lambda _: None).encode()
        answer = client.open(
            case.formatted_path,
            method=operation.method.upper(),
            query_string=case.query or None,
            headers={name: value for name, value in headers.items() if _fits_a_header(value)},
            data=sent if operation.body else None,
            content_type="application/json" if operation.body else None,
        )
        about = f"{case.method} {case.formatted_path} {headers} {case.query} {body}: {answer.status_code}"
        assert answer.status_code < 500, f"{about} {answer.text}"
        assert "Traceback" not in answer.text, about
        assert str(answer.status_code) in described["responses"] or answer.status_code in ROUTED_ELSEWHERE, about
        if request_schema is None:
            return
        is_valid = not isinstance(body, bytes) and request_schema.is_valid(json.loads(sent))
        if answer.status_code < 300:
            assert is_valid, f"accepted: {about}"
        if operation.path == OPENAIS:
            if mode is GenerationMode.POSITIVE and is_valid and answer.status_code == 400:
                refused = answer.get_json()["error"]["param"]
                is_too_large = TOO_LARGE in answer.text
                assert refused in LIMITS_OF_THE_MODEL | BETWEEN_FIELDS or is_too_large, (
                    f"refused: {about} {answer.text}"
                )
            return
        kind = operation.answers.get(answer.status_code)
        if kind is not None:
            validator(document, kind.__name__).validate(answer.get_json())
        if mode is GenerationMode.POSITIVE and is_valid and answer.status_code == 422:
            [problem] = answer.get_json()["invalid_fields"]
            is_strict = headers.get("X-Darkroom-Strict") == "1" and "X-Darkroom-Strict is 1" in problem["description"]
            is_too_large = TOO_LARGE in problem["description"]
            assert problem["field"] in BETWEEN_FIELDS or is_strict or is_too_large, f"refused: {about} {answer.text}"

    check()


def _without_lookups(body: Any) -> Any:
    """No name servers are asked in tests."""
    if isinstance(body, dict) and isinstance(body.get("webhook"), str):
        return body | {"webhook": "http://127.0.0.1:9/"}
    return body


def _fits_a_header(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()
