"""Every kind of wrong request to Replicate's routes."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from ulid import ULID

from storage.postgres.database import Connection
from tests.support.api_app import MODEL, post, problem, submit
from tests.support.making import count


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "darkroom/other"}, "model"),
        ({"version": "darkroom/other:2"}, "version"),
        ({"version": "2"}, "version"),
    ],
)
def test_a_body_that_contradicts_the_model_in_the_path_is_refused(
    client: FlaskClient, body: dict[str, str], field: str
) -> None:
    answer = client.post(f"/v1/models/{MODEL}/predictions", json={"input": {"prompt": "a"}} | body)
    assert problem(answer, 422)["invalid_fields"][0]["field"] == field


WRONG_VALUES: list[tuple[dict[str, Any], str, str]] = [
    ({"model": None}, "model", "is required"),
    ({"model": "darkroom/nothing"}, "model", "darkroom/blank, darkroom/other"),
    ({"model": MODEL, "version": "9"}, "version", "has no version '9'"),
    ({"model": 5}, "model", "valid string (got 5)"),
    ({"input": None}, "input", "valid dictionary (got null)"),
    ({"input": {}}, "input.prompt", "is required"),
    ({"input": {"prompt": "a", "width": 65}}, "input.width", "65 is not a multiple of 16"),
    ({"input": {"prompt": "a", "width": 1024, "height": 64}}, "input.width", "1024 is outside of 64 to 512"),
    ({"input": {"prompt": "a", "num_outputs": 5}}, "input.num_outputs", "5 is over the limit of darkroom/blank"),
    ({"input": {"prompt": "a\0"}}, "input.prompt", "NUL"),
    ({"input": {"prompt": "\ud83d"}}, "input.prompt", "surrogate"),
    ({"input": {"prompt": "a", "\ud800": 1}}, "input", "unicode"),
    ({"webhook": "ftp://example.com"}, "webhook", "https:// or http://"),
    ({"webhook": "http://10.0.0.1/hook"}, "webhook", "WEBHOOK_ALLOW=10.0.0.1"),
    ({"webhook_events_filter": ["done"]}, "webhook_events_filter.0", "'completed'"),
    ({"stream": "yes"}, "stream", "valid boolean (got 'yes')"),
    ({"version": "darkroom/other:2"}, "version", "belongs to darkroom/other, but the request is for darkroom/blank"),
    ({"version": "darkroom/nothing:1"}, "version", "there is no model"),
    ({"input": {"prompt": " "}}, "input.prompt", "must not be empty"),
    ({"input": {"prompt": "a", "size": "1024x64"}}, "input.width", "1024 is outside of 64 to 512"),
    ({"input": {"prompt": "a", "width": "64"}}, "input.width", "write it without quotes"),
]


def test_a_wrong_value_is_422_and_names_the_field_the_value_and_the_limit(
    client: FlaskClient, conn: Connection
) -> None:
    for body, field, said in WRONG_VALUES:
        told = problem(post(client, **body), 422)
        assert told["detail"].startswith(f"{field}: ")
        assert said in told["detail"]
        assert told["invalid_fields"][0]["field"] == field
    assert count(conn, "predictions") == count(conn, "procrastinate_jobs") == 0


NO_OBJECTS = [
    (b"", "line 1, column 1: Expecting value"),
    (b"{", "line 1, column 2: Expecting property name enclosed in double quotes"),
    (
        b'{"input": {},\n "webhook": "https://me:hunter2@x" "stream": true}',
        "line 2, column 36: Expecting ',' delimiter",
    ),
    (b'{"webhook": "hunter2', "line 1, column 13: Unterminated string starting at"),
    (b'{} "hunter2"', "line 1, column 4: Extra data"),
    (b"[]", "this is an array"),
    (b'"hunter2"', "this is a string"),
    (b"null", "this is null"),
    (b"false", "this is true or false"),
    (b"17", "this is a number"),
    (b'{"input": {"prompt": "a", "guidance_scale": NaN}}', "NaN is not JSON"),
    (b'{"input": {"prompt": "\xff"}}', "byte 23 is not UTF-8"),
    (b"[" * 60_000, "it is nested too deeply"),
    (b'{"input": {"seed": 1' + b"0" * 5000 + b"}}", "a number has thousands of digits"),
]


def test_what_is_no_json_object_is_400_and_says_where_without_repeating_it(client: FlaskClient) -> None:
    for body, reason in NO_OBJECTS:
        told = problem(client.post("/v1/predictions", data=body, content_type="application/json"), 400)
        assert told["detail"] == f"the body needs to be a JSON object: {reason}"
        assert "hunter2" not in told["detail"]


@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/images/generations"])
def test_json_of_any_depth_is_read_or_refused_and_breaks_nothing(client: FlaskClient, path: str) -> None:
    """Python reads about 990 levels, and can't write as many."""
    for levels in (*([60] if path == "/v1/predictions" else []), 66, 100, *range(970, 1000, 2), 977, 5000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            nested = opening * levels + "1" + closing * levels
            body = f'{{"model": "{MODEL}", "prompt": "a", "x": {nested}, "input": {{"prompt": "a", "x": {nested}}}}}'
            answer = client.post(path, data=body, content_type="application/json")
            assert answer.status_code == (201 if levels < 64 else 400), (levels, answer.text)
            assert levels < 64 or "nested too deeply" in answer.text


def test_a_body_over_the_limit_is_413(client: FlaskClient) -> None:
    answer = client.post("/v1/images/generations", json={"prompt": "a" * 70_000})
    assert answer.status_code == 413
    assert "MAX_BODY_BYTES" in answer.get_json()["error"]["message"]


WRONG_HEADERS = [
    ("Cancel-After", "4"),
    ("Idempotency-Key", ""),
    ("Idempotency-Key", "x" * 256),
]


def test_a_wrong_header_is_422_and_named(client: FlaskClient) -> None:
    for header, value in WRONG_HEADERS:
        assert problem(post(client, headers={header: value}), 422)["detail"].startswith(f"{header}: ")


def test_an_unknown_input_is_ignored_and_named_or_refused_where_that_is_asked_for(client: FlaskClient) -> None:
    for name in ("controlnet", "a\0b", "naïve\n", "x" * 500):
        made = submit(client, input={"prompt": "a", name: 1})
        assert "Ignored inputs that this model does not have: " in made["logs"]
        assert made["input"] == {"prompt": "a"}
        strict = post(client, headers={"X-Darkroom-Strict": "1"}, input={"prompt": "a", name: 1})
        assert "is no input of this model" in problem(strict, 422)["detail"]


def test_an_unknown_field_beside_the_input_is_refused_where_that_is_asked_for(client: FlaskClient) -> None:
    body = {"model": MODEL, "input": {"prompt": "a"}, "cache": False}
    assert client.post("/v1/predictions", json=body).status_code == 201
    strict = client.post("/v1/predictions", json=body, headers={"X-Darkroom-Strict": "1"})
    assert problem(strict, 422)["detail"].startswith("cache: is not known here")


def test_what_is_not_there_is_404(client: FlaskClient) -> None:
    for path in ("/v1/nothing", "/v1/predictions/x", "/v1/predictions/%00", "/v1/predictions/%FF"):
        problem(client.get(path), 404)
    for path in ("/v1/nothing", "/nothing", "/v1/%FF%00", "/v1/collections", f"/v1/{'x' * 500}"):
        told = problem(client.post(path), 404)  # Replicate's clients read `detail`, OpenAI's read `error`
        assert told["detail"] == told["error"]["message"]
        assert told["detail"].startswith("there is no route POST /")
        assert len(told["detail"]) < 300
    assert "error" not in problem(client.get(f"/v1/predictions/{str(ULID()).lower()}"), 404)
    problem(client.post(f"/v1/predictions/{ULID()!s}/cancel"), 404)
    problem(client.post("/v1/models/nobody/nothing/predictions", json={"input": {"prompt": "a"}}), 404)


def test_a_wrong_method_is_405_and_says_which_are_right(client: FlaskClient) -> None:
    answer = client.delete("/v1/predictions")
    assert problem(answer, 405)["error"]["type"] == "invalid_request_error"
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
