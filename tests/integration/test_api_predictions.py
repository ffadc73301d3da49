"""Replicate's routes as a client meets them: create, get, list, cancel, and every kind of wrong request."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from ulid import ULID

from api.parsing.list_request import MAX_LIMIT, PARAMETERS
from api.settings import ApiSettings
from storage.postgres.database import Connection
from storage.predictions.finish import finish
from storage.predictions.render import Renderer
from tests.support.api_app import CATALOG, MODEL, post, problem, serving, submit
from tests.support.making import claim_one, count, submit_one, succeeded


def test_a_new_prediction_is_starting_and_has_its_bell(client: FlaskClient, conn: Connection) -> None:
    made = submit(client, input={"prompt": "a red circle", "seed": 5, "num_outputs": 2})
    assert made["status"] == "starting"
    assert made["model"] == MODEL
    assert made["input"] == {"prompt": "a red circle", "seed": 5, "num_outputs": 2}
    assert made["output"] is None
    assert "Using seed: 5" in made["logs"]
    assert count(conn, "procrastinate_jobs", f"args->>'prediction_id' = '{made['id']}' AND status = 'todo'") == 1
    assert client.get(f"/v1/predictions/{made['id']}").get_json() == made


def test_every_route_is_there_with_and_without_v1(client: FlaskClient) -> None:
    for prefix in ("/v1", ""):
        _use_every_route(client, prefix)


def _use_every_route(client: FlaskClient, prefix: str) -> None:
    body = {"model": MODEL, "input": {"prompt": "a"}}
    made = client.post(f"{prefix}/predictions", json=body).get_json()
    assert client.get(f"{prefix}/predictions/{made['id']}").status_code == 200
    assert client.get(f"{prefix}/predictions").get_json()["results"][0]["id"] == made["id"]
    assert client.post(f"{prefix}/predictions/{made['id']}/cancel").status_code == 200
    assert client.post(f"{prefix}/models/{MODEL}/predictions", json={"input": {"prompt": "a"}}).status_code == 201
    assert client.get(f"{prefix}/webhooks/default/secret").get_json()["key"].startswith("whsec_")


def test_a_model_goes_by_name_version_or_alias(client: FlaskClient) -> None:
    for reference in (
        {"model": MODEL},
        {"version": MODEL},
        {"version": f"{MODEL}:1"},
        {"model": f"{MODEL}:1"},
        {"model": MODEL, "version": "1"},
        {"model": MODEL, "version": f"{MODEL}:1"},
        {"model": f"{MODEL}:1", "version": MODEL},
        {"model": "dall-e-3", "version": "1"},
        {"model": "dall-e-3"},
    ):
        answer = client.post("/v1/predictions", json={"input": {"prompt": "a"}} | reference)
        assert answer.status_code == 201, answer.text
        assert answer.get_json()["model"] == MODEL


def test_the_name_decides_between_models_with_the_same_version(api_settings: ApiSettings, tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    catalog.write_text(CATALOG.replace('version = "2"', 'version = "1"'))
    with serving(api_settings.model_copy(update={"models": catalog})) as app:
        client = app.test_client()
        for name in (MODEL, "darkroom/other"):
            for reference in ({"version": f"{name}:1"}, {"model": name, "version": "1"}, {"model": f"{name}:1"}):
                answer = client.post("/v1/predictions", json={"input": {"prompt": "a"}} | reference)
                assert answer.status_code == 201, answer.text
                assert answer.get_json()["model"] == name
            path = f"/v1/models/{name}"
            assert (
                client.post(f"{path}/predictions", json={"version": "1", "input": {"prompt": "a"}}).status_code == 201
            )
            assert client.get(f"{path}/versions/1").get_json()["version"] == "1"
        bare = problem(client.post("/v1/predictions", json={"version": "1", "input": {"prompt": "a"}}), 422)
        assert "one of several models (darkroom/blank, darkroom/other)" in bare["detail"]
        assert "leave the version out" in bare["detail"]


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


@pytest.mark.parametrize("place", ["input", "body"])
def test_previews_can_be_asked_for_in_the_input_and_beside_it(
    client: FlaskClient, conn: Connection, place: str
) -> None:
    body: dict[str, Any] = {"model": MODEL, "input": {"prompt": "a"}}
    (body["input"] if place == "input" else body)["previews"] = True
    assert "Ignored" not in client.post("/v1/predictions", json=body).get_json()["logs"]
    assert count(conn, "predictions", "parameters->'previews' = 'true'") == 1


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


def test_cancel_is_terminal_at_once_and_again_changes_nothing(client: FlaskClient, conn: Connection) -> None:
    made = submit(client)
    first = client.post(f"/v1/predictions/{made['id']}/cancel")
    assert first.status_code == 200
    assert first.get_json()["status"] == "canceled"
    assert first.get_json()["completed_at"]
    assert client.post(f"/v1/predictions/{made['id']}/cancel").data == first.data
    assert count(conn, "procrastinate_jobs") == 0


def test_the_list_is_read_forth_and_back_without_gap_or_repeat(client: FlaskClient, conn: Connection) -> None:
    ids = [submit_one(conn)["id"] for _ in range(2 * MAX_LIMIT + 50)]
    seen: list[str] = []
    pages = []
    url: str | None = "/v1/predictions"
    while url is not None:
        page = client.get(_path(url)).get_json()
        pages.append(page)
        seen += [each["id"] for each in page["results"]]
        url = page["next"]
    assert seen == ids[::-1]
    assert [len(page["results"]) for page in pages] == [MAX_LIMIT, MAX_LIMIT, 50]
    assert pages[0]["previous"] is None
    back = client.get(_path(pages[2]["previous"])).get_json()
    assert back["results"] == pages[1]["results"]
    first = client.get(_path(back["previous"])).get_json()
    assert first["results"] == pages[0]["results"]
    assert first["previous"] is None


def test_the_list_keeps_to_its_window_of_time_also_on_the_next_page(client: FlaskClient, conn: Connection) -> None:
    old = submit_one(conn)
    conn.execute("UPDATE predictions SET created_at = '2020-01-01Z'")
    new = submit_one(conn)
    after = client.get("/v1/predictions?created_after=2021-01-01T00:00:00Z").get_json()
    assert [each["id"] for each in after["results"]] == [new["id"]]
    before = client.get("/v1/predictions?created_before=2021-01-01T00:00:00Z").get_json()
    assert [each["id"] for each in before["results"]] == [old["id"]]
    problem(client.get("/v1/predictions?created_after=yesterday"), 422)
    problem(client.get("/v1/predictions?cursor=x"), 422)


LISTS = [
    ("/v1/predictions", f"it takes {', '.join(PARAMETERS)}"),
    ("/v1/webhook_deliveries", "it takes cursor, prediction_id, status"),
    ("/v1/models", "it takes no parameters"),
    (f"/v1/models/{MODEL}/versions", "it takes no parameters"),
]


@pytest.mark.parametrize(("path", "takes"), LISTS)
def test_a_list_refuses_a_parameter_that_it_does_not_know_and_names_those_it_knows(
    client: FlaskClient, path: str, takes: str
) -> None:
    assert client.get(path).status_code == 200
    for name in ("page", "a%00b", "Cursor"):
        assert problem(client.get(f"{path}?{name}=1"), 422)["detail"].endswith(f"of this list; {takes}")
    if "cursor" in takes:
        assert "2 times" in problem(client.get(f"{path}?cursor=a&cursor=b"), 422)["detail"]


def test_the_list_can_be_narrowed_to_a_source_as_at_replicate(client: FlaskClient) -> None:
    made = submit(client)
    assert [each["id"] for each in client.get("/v1/predictions?source=api").get_json()["results"]] == [made["id"]]
    assert client.get("/v1/predictions?source=web").get_json()["results"] == []
    assert "none of api, web" in problem(client.get("/v1/predictions?source=%00"), 422)["detail"]


def test_a_zone_whose_plus_was_not_escaped_is_read_as_it_was_meant(client: FlaskClient, conn: Connection) -> None:
    made = submit_one(conn)
    conn.execute("UPDATE predictions SET created_at = '2020-01-01T10:00:00Z'")
    for time_, is_listed in (("2020-01-01T11:59:59+02:00", True), ("2020-01-01T12:00:01+02:00", False)):
        listed = client.get(f"/v1/predictions?created_after={time_}").get_json()["results"]
        assert [each["id"] for each in listed] == ([made["id"]] if is_listed else [])


def test_an_empty_list_has_no_pages(client: FlaskClient) -> None:
    assert client.get("/v1/predictions").get_json() == {"next": None, "previous": None, "results": []}


def test_prefer_wait_answers_when_another_process_has_finished_it(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    def draw() -> None:
        while (claimed := claim_one(conn, renderer)) is None:
            time.sleep(0.02)
        finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)

    worker = threading.Thread(target=draw)
    worker.start()
    answer = post(client, headers={"Prefer": "wait=60"})
    worker.join()
    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == "wait=60"
    done = answer.get_json()
    assert done["status"] == "succeeded"
    assert len(done["output"]) == 1
    assert client.get(f"/v1/predictions/{done['id']}").data == answer.data


@pytest.mark.parametrize("wish", ["wait=0", "wait=0.5", "wait=soon", 'foo="a, wait=99"', "respond-async", '"'])
def test_a_wish_that_can_not_be_granted_is_answered_at_once(client: FlaskClient, wish: str) -> None:
    answer = post(client, headers={"Prefer": wish})
    assert answer.status_code == 201
    assert "Preference-Applied" not in answer.headers


def test_a_longer_wait_is_shortened_and_the_answer_says_so(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    def draw() -> None:
        while (claimed := claim_one(conn, renderer)) is None:
            time.sleep(0.02)
        finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)

    worker = threading.Thread(target=draw)
    worker.start()
    answer = client.post(
        "/v1/predictions",
        json={"model": MODEL, "input": {"prompt": "a"}},
        headers=[("Prefer", "respond-async"), ("Prefer", 'x="wait=1", wait=120')],  # two headers are one list
    )
    worker.join()
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.get_json()["status"] == "succeeded"


def test_prefer_wait_says_starting_where_the_time_was_up_first(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    def take() -> None:
        while claim_one(conn, renderer) is None:
            time.sleep(0.02)

    worker = threading.Thread(target=take)
    worker.start()
    answer = post(client, headers={"Prefer": "wait=2"})
    worker.join()
    assert answer.get_json()["status"] == "starting"
    assert client.get(f"/v1/predictions/{answer.get_json()['id']}").get_json()["status"] == "processing"


def test_cancel_after_sets_the_deadline(client: FlaskClient, conn: Connection) -> None:
    submit(client, headers={"Cancel-After": "1m30s"})
    assert count(conn, "predictions", "deadline_at - created_at BETWEEN interval '89 s' AND interval '91 s'") == 1


def test_cancel_after_lengthens_no_deadline(client: FlaskClient, conn: Connection) -> None:
    submit(client, headers={"Cancel-After": "99999h"})
    assert count(conn, "predictions", "deadline_at - created_at <= interval '1 day 1 s'") == 1


def test_a_priority_reaches_the_bell(client: FlaskClient, conn: Connection) -> None:
    submit(client, input={"prompt": "a", "priority": 7})
    assert count(conn, "procrastinate_jobs", "priority = 7") == 1


def test_every_answer_carries_the_request_id_that_was_sent_or_a_new_one(client: FlaskClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    for bad in ("a b", "x" * 129, "ü"):
        assert len(client.get("/v1/nothing", headers={"X-Request-ID": bad}).headers["X-Request-ID"]) == 16


def _path(url: str) -> str:
    return urlsplit(url)._replace(scheme="", netloc="").geturl()
