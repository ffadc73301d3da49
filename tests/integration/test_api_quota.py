"""Rate limits and caps: what is over them is 429 and says when to come again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from api.settings import ApiSettings
from storage.access.tokens import create_token
from storage.postgres.database import Connection
from storage.predictions.render import Renderer
from tests.support.api_app import post, problem, serving, submit
from tests.support.making import claim_one, count


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    with serving(api_settings.model_copy(update={"auth": "tokens", "max_queued": 3})) as app:
        yield app


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_more_than_a_minutes_worth_at_once_is_429_with_the_time_until_the_next(
    guarded: Flask, conn: Connection
) -> None:
    client = guarded.test_client()
    slow = bearer(create_token(conn, "slow", rate_per_minute=2, max_queued=0))
    assert [post(client, headers=slow).status_code for _ in range(3)] == [201, 201, 429]
    refused = post(client, headers=slow)
    assert "At most 2 predictions a minute" in problem(refused, 429)["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert count(conn, "predictions") == count(conn, "procrastinate_jobs") == 2
    conn.execute("UPDATE rate_buckets SET refilled_at = refilled_at - interval '31 s'")
    assert [post(client, headers=slow).status_code for _ in range(2)] == [201, 429]


def test_one_tokens_limit_is_not_anothers(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    slow, fast = (bearer(create_token(conn, name, rate_per_minute=1)) for name in ("slow", "fast"))
    assert [post(client, headers=slow).status_code for _ in range(2)] == [201, 429]
    assert post(client, headers=fast).status_code == 201


def test_a_cap_counts_what_waits_and_not_what_is_drawn(guarded: Flask, conn: Connection, renderer: Renderer) -> None:
    client, token = guarded.test_client(), bearer(create_token(conn, "app"))
    assert [post(client, headers=token).status_code for _ in range(4)] == [201, 201, 201, 429]
    refused = post(client, headers=token)
    assert "3 predictions of this token wait already" in problem(refused, 429)["detail"]
    assert int(refused.headers["Retry-After"]) >= 1
    assert claim_one(conn, renderer) is not None
    assert [post(client, headers=token).status_code for _ in range(2)] == [201, 429]


def test_a_crowd_never_gets_past_the_cap(guarded: Flask, conn: Connection) -> None:
    token = bearer(create_token(conn, "app"))
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda _: post(guarded.test_client(), headers=token).status_code, range(24)))
    assert statuses == {201: 3, 429: 21}
    assert count(conn, "predictions") == count(conn, "procrastinate_jobs") == 3


def test_the_limits_hold_for_everybody_together_where_there_are_no_tokens(api_settings: ApiSettings) -> None:
    with serving(api_settings.model_copy(update={"rate_limit_per_minute": 2, "max_queued": 1})) as app:
        client = app.test_client()
        assert [post(client).status_code for _ in range(2)] == [201, 429]


def test_a_repeated_request_is_answered_although_the_limit_is_reached(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    headers = bearer(create_token(conn, "app", rate_per_minute=1)) | {"Idempotency-Key": "k"}
    first = submit(client, headers=headers)
    assert submit(client, headers=headers)["id"] == first["id"]
    assert post(client, headers=headers | {"Idempotency-Key": "other"}).status_code == 429


def test_a_priority_above_the_tokens_is_422(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    ordinary = bearer(create_token(conn, "ordinary"))
    urgent = bearer(create_token(conn, "urgent", max_priority=5))
    for headers, priority, status in ((ordinary, 1, 422), (ordinary, 0, 201), (urgent, 6, 422), (urgent, 5, 201)):
        answer = post(client, input={"prompt": "a", "priority": priority}, headers=headers)
        assert answer.status_code == status, answer.text


def test_more_images_than_the_token_may_ask_for_are_422(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    few = bearer(create_token(conn, "few", max_images=2))
    said = problem(post(client, input={"prompt": "a", "num_outputs": 3}, headers=few), 422)
    assert said["detail"].startswith("input.num_outputs: 3 is over 2, the limit of images per prediction")
    assert post(client, input={"prompt": "a", "num_outputs": 2}, headers=few).status_code == 201
    assert count(conn, "predictions") == 1


def test_openais_clients_are_told_so_of_their_own_parameter(guarded: Flask, conn: Connection) -> None:
    few = bearer(create_token(conn, "few", max_images=2))
    answer = guarded.test_client().post("/v1/images/generations", json={"prompt": "a", "n": 3}, headers=few)
    assert (answer.status_code, answer.get_json()["error"]["param"]) == (400, "n")
    assert "n: 3 is over 2" in answer.get_json()["error"]["message"]


def test_the_setting_holds_where_there_are_no_tokens(api_settings: ApiSettings) -> None:
    with serving(api_settings.model_copy(update={"max_images": 1})) as app:
        said = problem(post(app.test_client(), input={"prompt": "a", "num_outputs": 2}), 422)
        assert "2 is over 1, the limit of images per prediction" in said["detail"]


def test_a_tokens_own_limit_of_images_comes_before_the_setting(api_settings: ApiSettings, conn: Connection) -> None:
    with serving(api_settings.model_copy(update={"auth": "tokens", "max_images": 1})) as app:
        client = app.test_client()
        two = {"prompt": "a", "num_outputs": 2}
        assert post(client, input=two, headers=bearer(create_token(conn, "ordinary"))).status_code == 422
        free = bearer(create_token(conn, "free", max_images=0))
        assert post(client, input=two, headers=free).status_code == 201
        too_many = problem(post(client, input={"prompt": "a", "num_outputs": 99}, headers=free), 422)
        assert "over the limit of darkroom/blank" in too_many["detail"]
