"""Whether the API says what is wrong around it, and never with a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from storage.errors import OperatorError
from storage.postgres.database import Connection
from tests.support.api_app import post, problem, serving


def test_a_live_and_ready_api_says_so(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "ok"}
    for _ in range(100):  # the listener connects on a thread of its own
        ready = client.get("/readyz")
        if ready.status_code == 200:
            break
    body = ready.get_json()
    assert body["checks"] == {"database": "ok", "bucket": "ok", "listener": "ok"}
    assert body["models"] == ["darkroom/blank", "darkroom/other"]


def test_the_first_page_says_what_this_is(client: FlaskClient) -> None:
    assert "curl http://127.0.0.1:8000/v1/predictions" in client.get("/").text


def test_without_the_bucket_it_is_not_ready_but_lives_and_takes_requests(api_settings: ApiSettings) -> None:
    nowhere = api_settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    with serving(nowhere) as app:
        client = app.test_client()
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.get_json()["checks"]["bucket"] == "unavailable"
        assert client.get("/healthz").status_code == 200
        assert post(client).status_code == 201


def test_a_broken_database_is_not_ready_and_a_bug_tells_nobody_its_traceback(
    client: FlaskClient, conn: Connection
) -> None:
    conn.execute("ALTER TABLE predictions RENAME TO moved")
    assert client.get("/readyz").status_code == 503
    told = problem(post(client), 500)
    assert "moved" not in str(told)
    assert "predictions" not in str(told)


def test_a_wrong_allow_list_is_for_the_operator(api_settings: ApiSettings) -> None:
    wrong = api_settings.model_copy(update={"webhook_allow": "*.internal"})
    with pytest.raises(OperatorError, match="internal"), serving(wrong):
        pass


def test_a_missing_catalog_is_for_the_operator(api_settings: ApiSettings, tmp_path: Path) -> None:
    wrong = api_settings.model_copy(update={"models": tmp_path / "none.toml"})
    with pytest.raises(OperatorError, match="MODELS"), serving(wrong):
        pass
