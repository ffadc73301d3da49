"""A pre-release of `replicate` 2.x, in an environment of its own, against the running service. Part of the long run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from storage.postgres.database import Connection, connect
from tests.clients.guarding import BREAKS, inputs, made_by, postgres_away, token
from tests.clients.lost_answers import losing_answers
from tests.clients.scripts import said_by
from tests.conftest import RunningServices
from tests.pictures import file_of, picture
from tests.support.receivers import Receiver
from tests.support.serving import Service

VERSION = "2.0.0b4"
SCRIPT = Path(__file__).parent / "replicate_2x.py"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the client: REPLICATE_2X_PYTHON, or one that is made here."""
    if given := os.environ.get("REPLICATE_2X_PYTHON"):
        return Path(given)
    if "DARKROOM_LONG_TESTS" not in os.environ:
        pytest.skip("installing replicate 2.x takes a minute: set DARKROOM_LONG_TESTS=1")
    folder = tmp_path_factory.mktemp("replicate-2x") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    found = folder / "bin" / "python"
    installed = subprocess.run(
        [str(found), "-m", "pip", "install", "--quiet", f"replicate=={VERSION}"],
        capture_output=True,
        timeout=600,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"pip could not install replicate=={VERSION}: no index at hand?")
    return found


def says(python: Path, url: str, token: str, *arguments: str) -> dict[str, Any]:
    """What the client got, by the function of the script that is named first."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    theirs = {"REPLICATE_BASE_URL": f"{url}/v1", "REPLICATE_API_TOKEN": token, "REPLICATE_POLL_INTERVAL": "0.1"}
    return said_by([str(python), str(SCRIPT), *arguments], env=clean | theirs)


def test_run_use_create_wait_cancel_and_files(python: Path, service: Service) -> None:
    said = says(python, service.url, "any", "running")
    assert said.pop("run").startswith(service.url)
    assert said.pop("signature") == b"\x89PNG".hex()
    assert said.pop("chunks_in_all") > 50
    assert said == {
        "run_by_version": 1,
        "run_polling": 1,
        "used": 1,
        "used_by_version": 1,
        "created": "starting",
        "waited": "succeeded",
        "preferred": "succeeded",
        "too_short": "starting",
        "drawn_by_version": "succeeded",
        "canceled": ["canceled", "canceled"],
        "reloaded": "canceled",
        "async": 1,
    }


@pytest.mark.parametrize(
    ("strategy", "sent_as"), [("default", "/v1/files/"), ("url", "/v1/files/"), ("base64", "data:image/png;base64")]
)
def test_pictures_are_uploaded_or_sent_as_text(
    python: Path, service: Service, tmp_path: Path, strategy: str, sent_as: str
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(file_of(picture()))
    said = says(python, service.url, "any", "with_pictures", str(file), strategy)
    assert sent_as in said.pop("created")
    assert said == {"run": 1, "several": 1, "path": 1, "async": 1} | ({"used": 1} if strategy == "default" else {})
    drawn = {}
    with connect(service.settings.database_url, application_name="test") as conn:
        for row in conn.execute("SELECT input->>'prompt' AS prompt, parameters FROM predictions"):
            drawn[row["prompt"]] = row["parameters"]
    assert drawn[f"2.x {strategy}"]["strength"] == 0.5
    several = drawn[f"2.x {strategy}, several"]
    assert several["more_images"] == [several["image"]]
    assert all(drawn[f"2.x {strategy}, {each}"]["image"] == several["image"] for each in ("path", "created", "async"))


def test_files_are_kept_listed_and_deleted(python: Path, service: Service, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(file_of(picture()))
    said = says(python, service.url, "any", "keeping_files", str(file))
    assert said == {"size": file.stat().st_size, "read": True, "listed": True, "deleted": True, "then": 404}


def test_logs_tell_the_steps_and_streams_end(python: Path, service: Service) -> None:
    said = says(python, service.url, "any", "following")
    assert len(set(said["steps"])) > 1
    assert said["has_progress"] is False  # docs/clients.md says so
    assert said["streamed"] == 1
    assert said["events"] == ["done", "logs", "output"]
    assert said["last_event"] == "done"


def test_lists_and_pages_hold_everything_once(python: Path, service: Service) -> None:
    assert says(python, service.url, "any", "listing") == {
        "first_page": 100,
        "listed_twice": 0,
        "unlisted": 0,
        "unlisted_by_iterating": 0,
        "models": ["blank", "nobody", "slow"],
        "versions": 1,
        "account": "darkroom",
    }


def test_the_webhook_is_signed_with_the_secret_that_the_client_fetches(python: Path, service: Service) -> None:
    with Receiver().serving() as receiver:
        said = says(python, service.url, "any", "asking_for_a_webhook", receiver.url)
        came = receiver.wait_for(1)[0]
    assert Webhook(said["secret"]).verify(came.body, came.headers)["id"] == said["id"]
    with pytest.raises(WebhookVerificationError):
        Webhook(said["secret"]).verify(came.body.replace(b"succeeded", b"failed"), came.headers)


def test_errors_are_of_their_class(python: Path, guarded: Service, database: Connection) -> None:
    said = says(python, guarded.url, token(database), "refusing", BREAKS)
    assert {name: (told["error"], told["status"]) for name, told in said.items()} == {
        "token": ("AuthenticationError", 401),
        "prediction": ("NotFoundError", 404),
        "model": ("NotFoundError", 404),
        "input": ("UnprocessableEntityError", 422),
        "version": ("UnprocessableEntityError", 422),
        "bug": ("InternalServerError", 500),
    }
    assert "multiple of 16" in said["input"]["detail"]
    assert "several models" in said["version"]["detail"]
    assert said["bug"]["detail"] == "Something broke here; the log of the API says what."


def test_over_its_rate_it_waits_as_long_as_it_is_told_and_makes_one(
    python: Path, guarded: Service, database: Connection
) -> None:
    prompt = inputs()["prompt"]
    said = says(python, guarded.url, token(database, rate_per_minute=20), "going_too_fast", prompt)
    assert said["error"] == "RateLimitError"
    assert 1 <= int(said["retry_after"]) <= 3
    assert said["then"] == "starting"
    assert made_by(database, prompt) == 1


def test_a_postgres_that_is_away_is_503(
    python: Path, guarded: Service, services: RunningServices, database: Connection
) -> None:
    mine = token(database)
    with postgres_away(services, guarded):
        said = says(python, guarded.url, mine, "reading", "nothing")
    assert (said["error"], said["status"], said["retry_after"]) == ("InternalServerError", 503, "2")


@pytest.mark.parametrize(("key", "drawn"), [(uuid4().hex, 1), ("", 2)], ids=["key", "no key"])
def test_what_it_sends_again_is_drawn_once_under_a_key(python: Path, service: Service, key: str, drawn: int) -> None:
    prompt = inputs()["prompt"]
    with losing_answers(service) as line:
        assert says(python, line.url, "any", "repeating", prompt, key) == {"drawn": 1}
        assert len(line.posts) == 2
    with connect(service.settings.database_url, application_name="test") as conn:
        assert made_by(conn, prompt) == drawn
