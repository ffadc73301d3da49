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
from storage.predictions.render import Wire
from tests.api_app import post, problem, serving, submit
from tests.making import claim_one, count


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


def test_a_cap_counts_what_waits_and_not_what_is_drawn(guarded: Flask, conn: Connection, wire: Wire) -> None:
    client, token = guarded.test_client(), bearer(create_token(conn, "app"))
    assert [post(client, headers=token).status_code for _ in range(4)] == [201, 201, 201, 429]
    refused = post(client, headers=token)
    assert "3 predictions of this token wait already" in problem(refused, 429)["detail"]
    assert int(refused.headers["Retry-After"]) >= 1
    assert claim_one(conn, wire) is not None
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
