"""What a worker's log says of each prediction's end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from storage.postgres.database import Connection
from storage.predictions.finish import Canceled, finish
from storage.predictions.parameters import Parameters
from storage.predictions.render import Renderer
from storage.settings import Settings
from tests.integration.worker_running import worker
from tests.support.eventually import eventually
from tests.support.making import count, submit_one


def parameters(steps: int) -> dict[str, Any]:
    return Parameters(
        prompt="a red circle", width=64, height=64, num_inference_steps=steps, guidance_scale=0.0, seed=7
    ).to_json()


def test_each_end_is_named_as_the_client_sees_it_with_its_duration(
    settings: Settings, conn: Connection, renderer: Renderer, tmp_path: Path
) -> None:
    drawn = submit_one(conn, parameters=parameters(2))["id"]
    unreadable = submit_one(conn, parameters={"of": "another release"})["id"]
    canceled = submit_one(conn, parameters=parameters(100_000))["id"]

    def ends() -> dict[str, dict[str, Any]]:
        lines = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines() if line[:1] == "{"]
        names = {"prediction.succeeded", "prediction.failed", "prediction.canceled", "prediction.claim_lost"}
        return {line["prediction_id"]: line for line in lines if line["event"] in names}

    with worker(settings, tmp_path, step_s=0.01, LOG_FORMAT="json"):
        eventually(lambda: count(conn, "predictions", f"id = '{canceled}' AND logs <> ''") == 1)
        eventually(lambda: {drawn, unreadable} <= ends().keys())
        assert finish(conn, renderer, canceled, Canceled()) is not None
        eventually(lambda: canceled in ends())
        found = ends()
    assert found[drawn]["event"] == "prediction.succeeded"
    assert "error" not in found[drawn]
    row = conn.execute("SELECT metrics FROM predictions WHERE id = %s", (drawn,)).fetchone()
    assert row is not None
    assert found[drawn]["predict_time_s"] == row["metrics"]["predict_time"]
    assert found[drawn]["total_time_s"] == row["metrics"]["total_time"]
    assert found[unreadable]["event"] == "prediction.failed"
    assert "can't be read by this release" in found[unreadable]["error"]
    assert found[canceled]["event"] == "prediction.canceled"
    assert {line["attempt"] for line in found.values()} == {1}
