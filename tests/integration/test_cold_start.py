"""The cold start of a worker, by phase: in the metrics of its first prediction, and in Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from storage.postgres.database import Connection
from storage.settings import Settings
from storage.workers.cold_starts import record_cold_start
from tests.deploy.worker_running import exit_code, forked_worker
from tests.support.making import MODEL, submit_one
from worker.cold_start import ColdStart

# The blank engine imports nothing, reads no weights, and is on no device.
OF_A_BLANK_WORKER = {"process", "claim", "first_step", "steps", "decode", "upload"}


@pytest.mark.timeout(300)
def test_only_the_first_prediction_of_a_worker_tells_the_phases_and_they_add_up(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    for _ in range(3):
        submit_one(conn)
    with forked_worker(settings, tmp_path, drain=True) as process:
        assert exit_code(process) == 0
    rows = conn.execute("SELECT status, metrics FROM predictions ORDER BY id").fetchall()
    assert [row["status"] for row in rows] == ["succeeded"] * 3
    assert ["cold_start" in row["metrics"] for row in rows] == [True, False, False]
    metrics = rows[0]["metrics"]
    assert set(metrics["cold_start"]) == OF_A_BLANK_WORKER
    assert min(metrics["cold_start"].values()) >= 0
    drawing = [metrics["cold_start"][phase] for phase in ("first_step", "steps", "decode", "upload")]
    assert sum(drawing) <= metrics["predict_time"] + 0.1
    counted = conn.execute("SELECT phase, seconds, buckets FROM cold_starts WHERE model = %s", (MODEL,)).fetchall()
    assert {row["phase"]: row["seconds"] for row in counted} == pytest.approx(metrics["cold_start"])
    assert all(sum(row["buckets"]) == 1 for row in counted)


def test_prometheus_gets_a_histogram_of_each_phase(client: FlaskClient, conn: Connection) -> None:
    record_cold_start(conn, MODEL, {"weights": 0.2, "claim": 0.01})
    record_cold_start(conn, MODEL, {"weights": 400.0})
    record_cold_start(conn, "nobody/asked", {"weights": 1.0})
    seen = {
        (sample.name, sample.labels.get("model"), sample.labels.get("phase"), sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
    name = "darkroom_cold_start_seconds"
    assert seen[f"{name}_count", MODEL, "weights", None] == 2
    assert seen[f"{name}_sum", MODEL, "weights", None] == pytest.approx(400.2)
    assert seen[f"{name}_bucket", MODEL, "weights", "0.1"] == 0
    assert seen[f"{name}_bucket", MODEL, "weights", "0.25"] == 1
    assert seen[f"{name}_bucket", MODEL, "weights", "300.0"] == 1
    assert seen[f"{name}_bucket", MODEL, "weights", "+Inf"] == 2
    assert seen[f"{name}_count", MODEL, "claim", None] == 1
    assert (f"{name}_count", "nobody/asked", "weights", None) not in seen


def test_a_phase_ends_once_and_the_next_begins_there() -> None:
    start = ColdStart()
    for phase in ("process", "first_step", "first_step", "steps"):
        start.end_of(phase)
    assert list(start.seconds) == ["process", "first_step", "steps"]
    assert start.seconds["process"] > 0
