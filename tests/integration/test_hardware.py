"""`GET /v1/hardware`, as Replicate has it."""

from __future__ import annotations

from uuid import uuid4

from flask.testing import FlaskClient

from storage.postgres.database import Connection
from storage.workers.load_times import write_load_time
from storage.workers.registry import WorkerRow, say_alive, say_goodbye
from tests.support.api_app import problem
from tests.support.making import MODEL


def run_worker(conn: Connection, device: str) -> WorkerRow:
    worker = WorkerRow(uuid4(), "here", 1, MODEL, "idle", device=device)
    say_alive(conn, worker)
    return worker


def test_before_a_worker_has_drawn_it_is_what_a_deployment_is_on_by_default(client: FlaskClient) -> None:
    assert client.get("/v1/hardware").get_json() == [{"name": "GPU", "sku": "gpu"}]


def test_it_lists_each_device_once_and_no_engine_that_uses_none(client: FlaskClient, conn: Connection) -> None:
    for device in ("NVIDIA H100 80GB HBM3", "cpu", "NVIDIA H100 80GB HBM3", "none (blank)"):
        run_worker(conn, device)
    assert client.get("/v1/hardware").get_json() == [
        {"name": "NVIDIA H100 80GB HBM3", "sku": "nvidia-h100-80gb-hbm3"},
        {"name": "CPU", "sku": "cpu"},
    ]


def test_a_device_stays_in_the_list_when_its_worker_has_ended(client: FlaskClient, conn: Connection) -> None:
    worker = run_worker(conn, "NVIDIA H200")
    write_load_time(conn, worker.id, device="NVIDIA H200", version="1", since_start_s=1.0, joins_midway=True)
    say_goodbye(conn, worker.id)
    assert client.get("/v1/hardware").get_json() == [{"name": "NVIDIA H200", "sku": "nvidia-h200"}]


def test_a_query_is_refused(client: FlaskClient) -> None:
    assert "limit" in problem(client.get("/v1/hardware?limit=1"), 422)["detail"]
