"""LoRAs by URL from the POST to the picture: a real HTTPS server, the API, and a worker that draws with the file."""

from __future__ import annotations

import io
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from api.settings import ApiSettings
from storage.catalog import load_catalog
from storage.outbound import safe_http
from storage.postgres.database import Connection, Row
from storage.s3.bucket import Bucket
from tests.conftest import REPOSITORY, RunningServices
from tests.integration.drawn_by_blank import blank
from tests.integration.worker_in_thread import working
from tests.support.api_app import post, problem, submit
from tests.support.certificates import write_certificates
from tests.support.eventually import eventually
from tests.support.making import count
from tests.support.receivers import LOOPBACK_ALLOWED, Answer, Received, Receiver
from worker import process
from worker.attempts.lora_downloads import LoraDownloads
from worker.settings import WorkerSettings

POCKET = "darkroom/pocket"
CATALOG = REPOSITORY / "models.toml"
LORA = (REPOSITORY / "models" / "pocket_loras" / "outlined.safetensors").read_bytes()
METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/a.safetensors"


@pytest.fixture
def api_settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"models": CATALOG, "lora_allow": "127.0.0.1,hub.example"})


@pytest.fixture
def worker_settings(services: RunningServices, database: str, tmp_path: Path) -> WorkerSettings:
    given = services.settings_for(database).model_dump(exclude_unset=True)
    own = {"lora_allow": "127.0.0.1", "lora_folder": tmp_path / "loras", "max_lora_bytes": len(LORA)}
    return WorkerSettings(**given | own, grace_seconds=10, poll_seconds=0.2)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """It stands for a hub, whose certificate comes from an authority that this machine trusts."""
    authority, certificate = write_certificates(tmp_path, address="127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    safe_http._system_ssl_context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Receiver().serving(context) as server:
        server.answer = partial(answer, server)
        yield server
    safe_http._system_ssl_context.cache_clear()


def answer(server: Receiver, request: Received) -> Answer:
    name = request.path.rpartition("/")[2].partition("?")[0].removesuffix(".safetensors")
    elsewhere = {"moved": f"https://127.0.0.1:{server.port}/lora.safetensors", "inside": METADATA_SERVICE}
    if name in elsewhere:
        return Answer(302, {"Location": elsewhere[name]})
    bodies = {"lora": LORA, "large": LORA + b"\0", "page": b"<html>log in</html>", "cut": LORA[:-9]}
    return Answer(200, body=bodies[name]) if name in bodies else Answer(404)


def url(server: Receiver, name: str) -> str:
    return f"https://127.0.0.1:{server.port}/{name}.safetensors?token=secret"


def ask(client: FlaskClient, loras: list[Any]) -> str:
    """The id of a prediction, always of the same picture but for its LoRAs."""
    made = submit(client, model=POCKET, input={"prompt": "a large red circle on white", "seed": 3, "loras": loras})
    return str(made["id"])


def row_of(conn: Connection, prediction_id: str) -> Row:
    row = conn.execute("SELECT * FROM predictions WHERE id = %s", (prediction_id,)).fetchone()
    assert row is not None
    return row


def drawn(conn: Connection, bucket: Bucket, prediction_id: str) -> np.ndarray[Any, Any]:
    row = row_of(conn, prediction_id)
    assert row["status"] == "succeeded", row["error"]
    found = conn.execute("SELECT object_key FROM images WHERE prediction_id = %s", (prediction_id,)).fetchone()
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(bucket.read(found["object_key"]))), dtype=int)


def all_over(conn: Connection, number: int) -> bool:
    return count(conn, "predictions", "status IN ('succeeded', 'failed')") == number


def test_a_lora_by_url_draws_what_the_same_file_draws_by_name_and_bad_ones_fail_alone(
    client: FlaskClient,
    conn: Connection,
    bucket: Bucket,
    server: Receiver,
    worker_settings: WorkerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A server on loopback stands for a public one: only its address is allowed here, nothing else is changed.
    monkeypatch.setattr(process, "LoraDownloads", partial(LoraDownloads, allow=LOOPBACK_ALLOWED))
    plain, named = ask(client, []), ask(client, ["outlined"])
    given = {name: ask(client, [{"name": url(server, name), "scale": 1.0}]) for name in ("lora", "moved")}
    again = ask(client, [url(server, "lora"), {"name": "outlined", "scale": 0.0}])
    bad = {name: ask(client, [url(server, name)]) for name in ("large", "page", "cut", "absent", "inside")}
    with working(worker_settings, load_catalog(CATALOG).models[POCKET]):
        eventually(lambda: all_over(conn, 5 + len(bad)))
    outlined = drawn(conn, bucket, named)
    assert np.abs(outlined - drawn(conn, bucket, plain)).max() > 100
    for prediction_id in (*given.values(), again):
        assert np.abs(outlined - drawn(conn, bucket, prediction_id)).max() <= 1
    reasons = {
        "large": f"the file has {len(LORA) + 1} bytes; at most {len(LORA)} are allowed",
        "page": "is no whole safetensors file",
        "cut": "is no whole safetensors file",
        "absent": "the server answered 404",
        "inside": "169.254.169.254",
    }
    for name, prediction_id in bad.items():
        row = row_of(conn, prediction_id)
        assert row["status"] == "failed"
        assert reasons[name] in row["error"]
        assert "secret" not in row["error"] + row["logs"]
    fetched = [request.path.partition("?")[0] for request in server.requests]
    assert fetched.count("/lora.safetensors") == 2  # once by itself, once behind the redirect
    assert len(list(worker_settings.lora_folder.iterdir())) == 2


def test_a_private_address_is_refused_although_its_host_is_allowed(
    client: FlaskClient, conn: Connection, server: Receiver, worker_settings: WorkerSettings
) -> None:
    prediction_id = ask(client, [url(server, "lora")])
    model = blank().model_copy(update={"name": POCKET})
    with working(worker_settings, model):
        eventually(lambda: all_over(conn, 1))
    assert row_of(conn, prediction_id)["status"] == "failed"
    error = row_of(conn, prediction_id)["error"]
    assert "127.0.0.1 is an address that is not public" in error
    assert "would allow" not in error, "no setting allows a private server of LoRAs"
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://elsewhere.example/a.safetensors", "LORA_ALLOW=elsewhere.example would allow them"),
        ("http://hub.example/a.safetensors", "must start with https://"),
        ("https://hub.example/a.ckpt", "has to name a .safetensors file"),
        ("https://hub.example:99999/a.safetensors", "port"),
        ("https://user:secret@hub.example/a.safetensors", "user"),
        ("file:///etc/passwd.safetensors", "https://"),
        ("pastel", "it has outlined"),
    ],
)
def test_what_no_worker_would_fetch_is_refused_at_the_post(
    client: FlaskClient, conn: Connection, name: str, words: str
) -> None:
    for given in ({"loras": [name]}, {"lora_weights": name}):
        refused = problem(post(client, model=POCKET, input={"prompt": "a"} | given), 422)
        [invalid] = refused["invalid_fields"]
        assert invalid["field"].startswith(f"input.{next(iter(given))}")
        assert words in invalid["description"]
    assert count(conn, "predictions") == 0
