"""Workers that stay ready: the bounds that Postgres knows, who may leave, and the routes that ask for them."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.operator import metrics
from storage.catalog import Model, load_catalog
from storage.postgres.database import Connection, connect
from storage.settings import Settings
from storage.workers.demand_leases import lease_demand
from storage.workers.deployments import Release, create_deployment
from storage.workers.registry import WorkerRow, say_alive
from storage.workers.warm import WorkerBounds, keep_warm, leave_if_enough, read_bounds
from tests.integration.test_hosts import host
from tests.support.api_app import post, problem
from tests.support.eventually import eventually
from tests.support.making import MODEL, count, submit_one

OTHER = "darkroom/other"
WARM = f"/v1/models/{MODEL}/warm"
DEPLOYMENT = {"name": "pictures", "model": MODEL, "hardware": "gpu-h100", "min_instances": 1, "max_instances": 3}


def blank(**warm: int) -> Model:
    return Model(name=MODEL, engine="blank", warm=warm)


def bounds_of(conn: Connection, model: Model, *, now: datetime | None = None) -> WorkerBounds:
    return read_bounds(conn, [model], now=now)[model.name]


def sign_in(conn: Connection, *, state: str = "idle") -> UUID:
    row = WorkerRow(uuid4(), "here", 1, MODEL, state)  # type: ignore[arg-type]
    say_alive(conn, row)
    return row.id


def test_at_least_is_the_largest_that_anybody_asks_for_and_never_more_than_at_most(conn: Connection) -> None:
    assert bounds_of(conn, blank()) == WorkerBounds()
    office = blank(**{"min_workers": 1, "Mon-Fri 08:00-18:00 Europe/Berlin": 2})
    assert bounds_of(conn, office, now=datetime(2026, 1, 5, 12, tzinfo=UTC)).at_least == 2
    assert bounds_of(conn, office, now=datetime(2026, 1, 4, 12, tzinfo=UTC)).at_least == 1
    until = keep_warm(conn, MODEL, 60)
    assert bounds_of(conn, blank()) == WorkerBounds(1, math.inf, until)
    create_deployment(conn, "one", Release(MODEL, "1", "gpu", 3, 5))
    create_deployment(conn, "two", Release(MODEL, "1", "gpu", 0, 4))
    assert bounds_of(conn, blank()) == WorkerBounds(3, 5, until)
    conn.execute("UPDATE deployments SET max_instances = 2, min_instances = 0")
    assert bounds_of(conn, blank(min_workers=7)) == WorkerBounds(2, 2, until)


def test_a_request_keeps_a_model_warm_until_its_time_is_over_and_a_shorter_one_takes_nothing_away(
    conn: Connection,
) -> None:
    until = keep_warm(conn, MODEL, 60)
    assert keep_warm(conn, MODEL, 5) == until
    conn.execute("UPDATE warm_requests SET until = clock_timestamp()")
    assert bounds_of(conn, blank()) == WorkerBounds()


def test_of_workers_that_want_to_leave_at_once_as_many_stay_as_are_to_be_ready(
    settings: Settings, conn: Connection
) -> None:
    workers = [sign_in(conn) for _ in range(6)]
    model = blank(min_workers=2)
    left: list[bool] = []
    together = threading.Barrier(len(workers))

    def leave(worker_id: UUID) -> None:
        with connect(settings.database_url, application_name="test") as own:
            together.wait()
            left.append(leave_if_enough(own, model, worker_id))

    threads = [threading.Thread(target=leave, args=(worker_id,)) for worker_id in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(left) == [False, False, True, True, True, True]
    assert count(conn, "workers", "state = 'idle'") == 2


def test_hosts_get_leases_for_as_many_workers_as_are_to_be_ready_and_no_more(conn: Connection) -> None:
    asked = WorkerBounds(at_least=2, at_most=3)
    assert [lease_demand(conn, MODEL, uuid4(), asked) is not None for _ in range(3)] == [True, True, False]
    for _ in range(9):
        submit_one(conn)
    assert [lease_demand(conn, MODEL, uuid4(), asked) is not None for _ in range(2)] == [True, False]
    assert lease_demand(conn, OTHER, uuid4()) is None


def test_a_request_for_a_warm_model_says_until_when_and_how_many_workers_there_are(
    client: FlaskClient, conn: Connection
) -> None:
    sign_in(conn)
    sign_in(conn, state="loading")
    answer = client.post(WARM)
    assert answer.status_code == 202
    body = answer.get_json()
    assert (body["model"], body["workers"]) == (MODEL, {"ready": 1, "loading": 1})
    assert count(conn, "warm_requests", "until BETWEEN clock_timestamp() AND clock_timestamp() + interval '300 s'") == 1
    assert client.post(WARM, json={"seconds": 3600}).status_code == 202
    assert count(conn, "warm_requests", "until > clock_timestamp() + interval '3000 s'") == 1
    for wrong in ({"seconds": 0}, {"seconds": 3601}, {"seconds": "60"}, {"second": 60}):
        problem(client.post(WARM, json=wrong), 422)
    problem(client.post("/v1/models/darkroom/nothing/warm"), 404)


def test_prefer_warm_keeps_the_model_ready_beside_a_prediction(client: FlaskClient, conn: Connection) -> None:
    answer = post(client, headers={"Prefer": "warm=120"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (201, "warm=120")
    assert count(conn, "warm_requests", "until > clock_timestamp() + interval '100 s'") == 1
    both = post(client, headers={"Prefer": "wait=1, warm"})
    assert both.headers["Preference-Applied"] == "wait=1, warm=300"
    problem(post(client, headers={"Prefer": "warm"}, model="darkroom/nothing"), 422)
    assert count(conn, "warm_requests") == 1


def test_status_and_metrics_tell_how_many_workers_there_are_to_be(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "READ_EVERY_S", -1.0)

    def seen() -> tuple[int, int | None]:
        (found,) = [each for each in client.get("/v1/status").get_json()["models"] if each["model"] == MODEL]
        return found["workers"]["at_least"], found["workers"]["at_most"]

    assert seen() == (0, None)
    assert client.post("/v1/deployments", json=DEPLOYMENT).status_code == 200
    assert seen() == (1, 3)
    text = client.get("/metrics").text
    assert f'darkroom_workers_at_least{{model="{MODEL}"}} 1.0' in text
    assert f'darkroom_workers_at_most{{model="{MODEL}"}} 3.0' in text
    assert f'darkroom_workers_at_most{{model="{OTHER}"}} +Inf' in text


def test_a_deployment_is_created_read_changed_and_deleted_in_replicates_shape(client: FlaskClient, app: Flask) -> None:
    made = client.post("/v1/deployments", json=DEPLOYMENT).get_json()
    release = made["current_release"]
    assert (made["owner"], made["name"], release["number"], release["model"]) == ("darkroom", "pictures", 1, MODEL)
    assert release["version"] == client.get(f"/v1/models/{MODEL}").get_json()["latest_version"]["id"]
    assert release["configuration"] == {"hardware": "gpu-h100", "min_instances": 1, "max_instances": 3}
    assert release["created_by"]["username"] == "darkroom"
    assert client.get("/v1/deployments").get_json() == {"next": None, "previous": None, "results": [made]}
    path = "/v1/deployments/darkroom/pictures"
    changed = client.patch(path, json={"min_instances": 0}).get_json()["current_release"]
    assert (changed["number"], changed["configuration"]["min_instances"]) == (2, 0)
    assert changed["configuration"]["max_instances"] == 3
    drawn = client.post(f"{path}/predictions", json={"input": {"prompt": "a red circle"}})
    assert (drawn.status_code, drawn.get_json()["model"]) == (201, MODEL)
    assert client.delete(path).status_code == 204
    for answer in (client.get(path), client.patch(path, json={}), client.delete(path)):
        assert "no deployment 'darkroom/pictures'" in problem(answer, 404)["detail"]


def test_what_is_wrong_with_a_deployment_is_said(client: FlaskClient, conn: Connection) -> None:
    assert client.post("/v1/deployments", json=DEPLOYMENT).status_code == 200
    path = "/v1/deployments/darkroom/pictures"
    for change, said in (
        ({}, "there is a deployment 'pictures' already"),
        ({"name": "Pictures"}, "name: String should match pattern"),
        ({"name": "new", "model": "nobody/nothing"}, "there is no model"),
        ({"name": "new", "version": "7"}, "has no version"),
        ({"name": "new", "min_instances": 4}, "more than max_instances, which is 3"),
        ({"name": "new", "max_instances": 65}, "less than or equal to 64"),
        ({"name": "new", "min_instance": 1}, "min_instance:"),
    ):
        assert said in problem(client.post("/v1/deployments", json=DEPLOYMENT | change), 422)["detail"]
    assert "more than max_instances" in problem(client.patch(path, json={"max_instances": 0}), 422)["detail"]
    elsewhere = problem(client.get("/v1/deployments/acme/pictures"), 404)["detail"]
    assert "the owner of all deployments is darkroom" in elsewhere
    problem(client.get("/v1/deployments/darkroom/%00"), 404)
    conn.execute("UPDATE deployments SET model = 'darkroom/former'")
    assert client.get(path).status_code == 200
    problem(client.post(f"{path}/predictions", json={"input": {"prompt": "a red circle"}}), 404)
    assert count(conn, "predictions") == 0


@pytest.mark.timeout(400)
def test_two_hosts_keep_one_worker_ready_until_its_time_is_over(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    options = ("--idle-exit", "0", "--workers", "2", "--no-warm-parent")
    with host(settings, tmp_path / "a", *options) as first, host(settings, tmp_path / "b", *options) as second:
        assert load_catalog(next((tmp_path / "a").glob("models-*.toml"))).models[MODEL].warm.min_workers == 0
        keep_warm(conn, MODEL, 3600)
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1, timeout_s=150)
        submit_one(conn)
        eventually(lambda: count(conn, "predictions", "status = 'succeeded'") == 1, timeout_s=150)
        # It has been without work for longer than --idle-exit, and has asked whether it may leave.
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1, timeout_s=150)
        conn.execute("DELETE FROM warm_requests")
        eventually(lambda: count(conn, "workers") == 0, timeout_s=150)
        assert first.count("worker.ready") + second.count("worker.ready") == 1
        eventually(lambda: first.count("worker.idle_exit") + second.count("worker.idle_exit") == 1)
