"""What the project is for: a prompt goes in, an image and a signed webhook come out, whatever dies on the way."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from standardwebhooks import Webhook

from storage.postgres.database import connect
from storage.settings import Settings
from tests.acceptance.running_up import REPOSITORY, RunningUp, get_bytes, up
from tests.support.eventually import eventually
from tests.support.making import count
from tests.support.receivers import Received, Receiver

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as serving:
        yield serving


def post(running: RunningUp, model: str, webhook: str, **inputs: object) -> dict[str, Any]:
    body = {"model": model, "input": inputs, "webhook": webhook, "webhook_events_filter": ["completed"]}
    status, prediction = running.request("POST", "/v1/predictions", body)
    assert status == 201, prediction
    return prediction


def verify(running: RunningUp, received: Received) -> dict[str, Any]:
    """The body, once the library that receivers use says that the signature is right."""
    _, secret = running.request("GET", "/v1/webhooks/default/secret")
    verified = Webhook(secret["key"]).verify(received.body, received.headers)
    assert isinstance(verified, dict)
    return verified


def test_a_prompt_comes_back_as_a_picture_that_follows_it_and_as_a_signed_webhook(
    folder: Path, receiver: Receiver
) -> None:
    (folder / "models.toml").write_text(
        (REPOSITORY / "models.toml").read_text().replace('"./models/', f'"{REPOSITORY}/models/')
    )
    with up(folder) as running:
        created = post(
            running,
            "darkroom/pocket",
            receiver.url,
            prompt="a red circle on a blue background",
            width=128,
            seed=1,
        )
        assert created["status"] == "starting"
        assert running.wait_for_status(created["id"], "succeeded", "failed", timeout_s=120) == "succeeded"
        [received] = receiver.wait_for(1)
        told = verify(running, received)
        body, content_type = get_bytes(f"{running.url}/v1/predictions/{created['id']}")
        assert received.body == body
        assert content_type == "application/json"
        assert told["input"] == {
            "prompt": "a red circle on a blue background",
            "width": 128,
            "seed": 1,
        }
        assert [told["metrics"][name] > 0 for name in ("predict_time", "total_time", "queue_time")] == [True] * 3
        picture_bytes, content_type = get_bytes(told["output"][0])
        assert content_type == "image/png"
        picture = Image.open(io.BytesIO(picture_bytes)).convert("RGB")
        assert picture.size == (128, 128)
        assert is_about(picture.getpixel((4, 4)), "blue"), picture.getpixel((4, 4))
        red = sum(is_about(pixel, "red") for pixel in picture.get_flattened_data())
        assert is_about(picture.getpixel((64, 64)), "red"), picture.getpixel((64, 64))
        assert 1500 < red < 3000, "a medium circle has some 2,200 of the 16,384 pixels"


def is_about(pixel: Any, colour: str) -> bool:
    red, _green, blue = pixel
    return bool(blue > red + 60 if colour == "blue" else red > blue + 60)


def test_a_worker_killed_in_a_drawing_costs_one_more_drawing_and_nothing_else(
    folder: Path, receiver: Receiver, settings: Settings
) -> None:
    with up(folder, env={"DATABASE_URL": settings.database_url}) as running:
        created = post(running, "test/slow", receiver.url, prompt="a red circle")
        running.wait_for_status(created["id"], "processing")
        running.workers()[0].kill()
        assert running.wait_for_status(created["id"], "succeeded") == "succeeded"
        receiver.wait_for(1)
        with connect(settings.database_url, application_name="test") as conn:
            assert count(conn, "images") == 1
            assert count(conn, "webhook_deliveries") == 1
            row = conn.execute("SELECT attempt, crashes FROM predictions").fetchone()
            assert row == {"attempt": 2, "crashes": 1}
        assert len(receiver.requests) == 1


def test_fifty_predictions_at_once_are_drawn_once_each_by_two_workers(
    folder: Path, receiver: Receiver, settings: Settings
) -> None:
    with up(folder, "--workers", "2", env={"DATABASE_URL": settings.database_url}) as running:
        ids = [post(running, "test/blank", receiver.url, prompt=f"picture {n}")["id"] for n in range(50)]
        bodies = [verify(running, received) for received in receiver.wait_for(50)]
        assert sorted(body["id"] for body in bodies) == sorted(ids)
        assert {body["status"] for body in bodies} == {"succeeded"}
        assert all("attempt" not in body for body in bodies)
        with connect(settings.database_url, application_name="test") as conn:
            rows = conn.execute("SELECT id, worker_id FROM predictions ORDER BY started_at").fetchall()
    # Each worker takes the oldest that waits. Between two workers there is no order: one may be paused by the system.
    for worker_id in {row["worker_id"] for row in rows}:
        drawn = [ids.index(row["id"]) for row in rows if row["worker_id"] == worker_id]
        assert drawn == sorted(drawn), "first come, first drawn"


def test_a_submit_at_the_moment_of_the_idle_exit_is_drawn(folder: Path, receiver: Receiver) -> None:
    with up(folder, "--idle-exit", "0") as running:
        for n in range(4):  # with 0 s, every worker is leaving when the next submit comes
            created = post(running, "test/blank", receiver.url, prompt=f"picture {n}", num_inference_steps=1)
            receiver.wait_for(n + 1)
            assert running.status_of(created["id"]) == "succeeded"
        eventually(lambda: running.workers() == [])
