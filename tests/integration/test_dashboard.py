"""The Grafana dashboard asks only for metrics that exist."""

from __future__ import annotations

import json
import re

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from storage.postgres.database import Connection
from storage.predictions.finish import finish
from storage.predictions.render import Renderer
from tests.conftest import REPOSITORY
from tests.support.api_app import post
from tests.support.making import claim_one, submit_one, succeeded


def test_every_metric_of_the_dashboard_is_there(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    post(client)
    families = text_string_to_metric_families(client.get("/metrics").text)
    there = {sample.name for family in families for sample in family.samples} | {"darkroom_workers"}
    dashboard = json.loads((REPOSITORY / "deploy/grafana/darkroom.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"darkroom_[a-z0-9_]+", target["expr"])
    }
    assert len(asked) >= 14
    assert asked - there == set()
