"""An API, a courier and a worker whose clock is an hour off: they go by the database's, or say what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from standardwebhooks import Webhook

from api.settings import ApiSettings
from storage.access.sealing import IN_THE_CLEAR
from storage.access.signing_keys import active_webhook_secrets
from storage.postgres.database import Connection
from storage.predictions.render import open_renderer
from tests.conftest import RunningServices
from tests.integration.worker_running import worker
from tests.support.eventually import eventually
from tests.support.making import count, draw_next, submit_one
from tests.support.receivers import Receiver
from tests.support.serving import environment_of, free_port, run, stop
from tests.support.wrong_clock import FAKETIME, WITHOUT, clock_off_by

pytestmark = [pytest.mark.skipif(FAKETIME is None, reason=WITHOUT), pytest.mark.timeout(600)]
HOUR_S = 3600
OFF_BY = pytest.mark.parametrize("off_by_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
RETENTION_S = 1800


@pytest.fixture
def known(services: RunningServices, database: str) -> ApiSettings:
    """Settings with an address that the tests can sign links for."""
    return services.settings_for(
        database, public_url=f"http://127.0.0.1:{free_port()}", retention_s=RETENTION_S, webhook_allow="127.0.0.0/8"
    )


@contextmanager
def part(settings: ApiSettings, name: str, *words: str, off_by_s: int, log: Path) -> Iterator[None]:
    """One part of the service, whose clock is off."""
    more = {"RETENTION_S": str(settings.retention_s), "LOG_LEVEL": "INFO"}
    process = run(name, environment_of(settings) | more | clock_off_by(off_by_s, log.parent), *words, log=log)
    try:
        if name == "api":
            wait_until_answers(settings.public_url)
        yield
    finally:
        stop([process])


def wait_until_answers(url: str) -> None:
    def answers() -> bool:
        try:
            return requests.get(f"{url}/healthz", timeout=60).status_code == 200
        except requests.ConnectionError:
            return False

    eventually(answers)


@OFF_BY
def test_the_api_checks_links_by_the_databases_clock_and_tells_what_s3_says_about_its_own(
    known: ApiSettings, conn: Connection, tmp_path: Path, off_by_s: int
) -> None:
    renderer = open_renderer(known, conn)
    prediction_id = submit_one(conn, webhook=None, webhook_events=())["id"]
    draw_next(conn, renderer)
    now = datetime.now(UTC)
    log = tmp_path / "api.log"
    port = known.public_url.rpartition(":")[2]
    with part(known, "api", "--port", port, off_by_s=off_by_s, log=log):
        valid = renderer.links.of_prediction(prediction_id, now + timedelta(seconds=HOUR_S / 2))["stream"]
        assert requests.get(valid, timeout=60).status_code == 200
        expired = renderer.links.of_prediction(prediction_id, now - timedelta(seconds=HOUR_S / 2))["stream"]
        assert requests.get(expired, timeout=60).status_code == 403
        image = renderer.links.of_image(prediction_id, 0, "png", now + timedelta(seconds=HOUR_S / 2))
        assert requests.get(image, timeout=60).status_code == 503
        today = requests.get(f"{known.public_url}/v1/usage", timeout=60).json()
        assert today["to"] == f"{now:%Y-%m-%d}" or datetime.now(UTC).date() != now.date()
    said = log.read_text()
    assert "clock.differs" in said
    assert f"{'ahead of' if off_by_s > 0 else 'behind'} S3's: let this machine synchronize its clock" in said


@OFF_BY
def test_the_courier_signs_rescues_and_removes_by_the_databases_clock(
    known: ApiSettings, conn: Connection, tmp_path: Path, off_by_s: int
) -> None:
    old = submit_one(conn, webhook=None, webhook_events=())["id"]
    draw_next(conn, open_renderer(known, conn))
    with (
        Receiver().serving() as receiver,
        part(known, "courier", off_by_s=off_by_s, log=tmp_path / "courier.log"),
        worker(known, tmp_path, step_s=1.0),
    ):
        id_ = submit_one(conn, webhook=receiver.url, webhook_events=("completed",))["id"]
        [request] = receiver.wait_for(1)
        (secret,) = active_webhook_secrets(conn, IN_THE_CLEAR)
        Webhook(secret).verify(request.body, request.headers)  # refuses what is 5 minutes old, or of the future
        if off_by_s > 0:  # a minute: one that is an hour old is removed, so the other one was looked at too
            conn.execute("UPDATE predictions SET completed_at = now() - interval '1 hour' WHERE id = %s", (old,))
            eventually(lambda: count(conn, "predictions", f"id = '{old}' AND data_removed") == 1)
    row = conn.execute(
        "SELECT status, attempt, crashes, data_removed FROM predictions WHERE id = %s", (id_,)
    ).fetchone()
    assert row == {"status": "succeeded", "attempt": 1, "crashes": 0, "data_removed": False}


@OFF_BY
def test_a_worker_that_s3_refuses_for_its_clock_says_by_how_much_it_is_off_and_takes_nothing(
    known: ApiSettings, conn: Connection, tmp_path: Path, off_by_s: int
) -> None:
    submit_one(conn, webhook=None, webhook_events=())
    with worker(known, tmp_path, **clock_off_by(off_by_s, tmp_path)):
        eventually(lambda: count(conn, "workers", "error LIKE '%synchronize its clock%'") == 1)
        row = conn.execute("SELECT error FROM workers").fetchone()
    assert row is not None
    assert f"{'ahead of' if off_by_s > 0 else 'behind'} S3's" in row["error"]
    assert abs(int(row["error"].partition("clock is ")[2].partition(" s ")[0]) - HOUR_S) < 60
    assert count(conn, "predictions", "status = 'starting' AND attempt = 0") == 1
