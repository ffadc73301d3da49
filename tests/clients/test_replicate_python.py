"""`replicate` 1.x, as it is installed from PyPI, against the running service."""

from __future__ import annotations

import io
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from PIL import Image
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.helpers import FileOutput
from replicate.prediction import Prediction
from replicate.stream import ServerSentEvent
from replicate.webhook import Webhooks

from storage.postgres.database import connect
from storage.workers.registry import WorkerRow, say_alive, say_goodbye
from tests.support.receivers import Receiver
from tests.support.serving import Service

MODEL = "darkroom/blank"
SLOW = "darkroom/slow"
INPUT = {"prompt": "a red circle", "seed": 7}


@pytest.fixture
def replicate(service: Service) -> Iterator[Client]:
    client = Client(api_token="r8_any", base_url=service.url)
    yield client
    client._client.close()  # it has no public way to be closed


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as running:
        yield running


def drawn(replicate: Client, **inputs: object) -> Prediction:
    """A prediction that is over. `predictions.create(model=…, wait=…)` forgets the wait in 1.0.7; this does not."""
    return replicate.models.predictions.create(MODEL, {**INPUT, **inputs}, wait=True)


def test_run_waits_and_returns_the_urls(replicate: Client) -> None:
    output = replicate.run(MODEL, input=INPUT)
    assert isinstance(output, list)
    assert len(output) == 1


@pytest.mark.parametrize("reference", ["darkroom/blank:1", "darkroom/slow:slow-1"])
def test_run_takes_a_version(replicate: Client, reference: str) -> None:
    if reference.endswith(":1"):  # two models have a version 1: the client sends it without the model's name
        with pytest.raises(ReplicateError) as refused:
            replicate.run(reference, input=INPUT)
        assert "several models" in (refused.value.detail or "")
        version = replicate.models.get(MODEL).latest_version
        assert version is not None
        reference = f"{MODEL}:{version.id}"
    output = replicate.run(reference, input=INPUT)
    assert isinstance(output, list)
    assert len(output) == 1


def test_create_and_wait(replicate: Client) -> None:
    prediction = drawn(replicate, cache=False)
    assert prediction.status == "succeeded"
    assert prediction.model == MODEL
    assert prediction.metrics is not None
    assert prediction.metrics["predict_time"] > 0


def test_what_is_answered_from_the_cache_has_metrics_too(replicate: Client) -> None:
    drawn(replicate, seed=77)
    prediction = drawn(replicate, seed=77)
    assert prediction.metrics is not None
    assert prediction.metrics["cached"] is True
    assert prediction.metrics["predict_time"] == 0


def test_a_repeat_is_answered_in_its_post_also_where_an_idle_worker_is_quicker(replicate: Client) -> None:
    drawn(replicate, seed=78)
    for _ in range(20):
        prediction = replicate.predictions.create(model=MODEL, input=INPUT | {"seed": 78})
        assert prediction.status == "succeeded"
        assert prediction.output
        assert prediction.metrics is not None
        assert prediction.metrics["predict_time"] == 0


def test_create_poll_and_reload_with_progress(replicate: Client) -> None:
    prediction = replicate.predictions.create(model=SLOW, input=INPUT | {"cache": False})
    assert prediction.status == "starting"
    seen = []
    while prediction.status not in ("succeeded", "failed", "canceled"):
        prediction.reload()
        if prediction.progress is not None:
            seen.append((prediction.progress.current, prediction.progress.total))
    assert prediction.status == "succeeded"
    assert seen[-1] == (8, 8)
    assert len(set(seen)) > 1
    assert replicate.predictions.get(prediction.id).output == prediction.output


def test_wait_on_a_prediction_polls_until_it_is_over(replicate: Client) -> None:
    prediction = replicate.models.predictions.create(model=(MODEL.split("/")[0], "blank"), input=INPUT)
    prediction.wait()
    assert prediction.status == "succeeded"


def test_a_wait_that_is_too_short_says_starting(replicate: Client) -> None:
    for left in (2, 1, 0):
        try:
            prediction = replicate.models.predictions.create(SLOW, INPUT | {"num_inference_steps": 20}, wait=1)
            break
        except httpx.ReadTimeout:  # this client leaves the server half a second more, which a busy machine may need
            if not left:
                raise
    assert prediction.status == "starting"
    for _ in range(2):
        prediction.cancel()
        assert str(prediction.status) == "canceled"
    assert replicate.predictions.get(prediction.id).status == "canceled"


def test_list_and_paginate(replicate: Client) -> None:
    made = [replicate.predictions.create(model="darkroom/nobody", input=INPUT).id for _ in range(105)]
    first = replicate.predictions.list()
    assert len(first.results) == 100
    assert first.next is not None
    assert first.previous is None
    second = replicate.predictions.list(first.next)
    assert second.results
    listed = [prediction.id for page in (first, second) for prediction in page]
    assert len(listed) == len(set(listed))
    assert set(made) <= set(listed)
    assert [p.id for p in first][:105] == sorted((p.id for p in first), reverse=True)


def test_stream_gives_logs_output_and_done(replicate: Client) -> None:
    events = list(replicate.stream(SLOW, input=INPUT | {"cache": False}))
    kinds = [event.event for event in events]
    assert set(kinds) == {
        ServerSentEvent.EventType.LOGS,
        ServerSentEvent.EventType.OUTPUT,
        ServerSentEvent.EventType.DONE,
    }
    assert kinds[-1] is ServerSentEvent.EventType.DONE
    logs = "".join(event.data for event in events if event.event is ServerSentEvent.EventType.LOGS)
    assert "Using seed: 7" in logs
    assert logs.count("| 8/8") == 1  # nothing is said twice
    assert all(event.id for event in events)


def test_stream_of_a_prediction_that_is_over(replicate: Client) -> None:
    prediction = drawn(replicate)
    events = list(prediction.stream())
    assert [event.event.value for event in events] == ["logs", "output", "done"]
    assert str(events[1]) == (prediction.output or [None])[0]


def test_stream_of_a_canceled_prediction_ends(replicate: Client) -> None:
    prediction = replicate.predictions.create(model="darkroom/nobody", input=INPUT)
    prediction.cancel()
    assert [event.event.value for event in prediction.stream()] == ["logs", "done"]


def test_a_file_is_read_back_with_the_token_sent_along(replicate: Client) -> None:
    prediction = drawn(replicate, output_format="webp")
    assert prediction.output is not None
    picture = Image.open(io.BytesIO(FileOutput(prediction.output[0], replicate).read()))
    assert (picture.format, picture.size) == ("WEBP", (64, 64))


def test_models_and_versions(replicate: Client) -> None:
    listed = replicate.models.list()
    assert {f"{model.owner}/{model.name}" for model in listed} == {MODEL, SLOW, "darkroom/nobody"}
    model = replicate.models.get(MODEL)
    assert model.latest_version is not None
    assert [version.id for version in model.versions.list()] == [model.latest_version.id]
    version = model.versions.get(model.latest_version.id)
    inputs = version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    assert inputs["width"] == {
        "title": "Width", "type": "integer", "description": "Pixels.", "default": 64, "minimum": 64, "maximum": 512,
        "multipleOf": 16, "x-order": 2,
    }  # fmt: skip
    prediction = replicate.predictions.create(version=version, input=INPUT, wait=True)
    assert prediction.status == "succeeded"


def test_the_account(replicate: Client) -> None:
    assert replicate.accounts.current().username == "darkroom"


def test_the_webhook_is_signed_with_the_secret_that_the_client_fetches(replicate: Client, receiver: Receiver) -> None:
    prediction = replicate.predictions.create(
        model=MODEL, input=INPUT, webhook=receiver.url, webhook_events_filter=["completed"]
    )
    came = receiver.wait_for(1)[0]
    secret = replicate.webhooks.default.secret()
    Webhooks.validate(headers=came.headers, body=came.body.decode(), secret=secret)
    assert Prediction.parse_raw(came.body).id == prediction.id
    tampered = came.body.decode().replace("succeeded", "failed")
    with pytest.raises(ValueError, match=r"(?i)signature"):
        Webhooks.validate(headers=came.headers, body=tampered, secret=secret)


def test_errors_are_errors_with_their_status(replicate: Client) -> None:
    with pytest.raises(ReplicateError) as missing:
        replicate.predictions.get("nothing")
    assert missing.value.status == 404
    with pytest.raises(ReplicateError) as unknown:
        replicate.models.get("no/model")
    assert unknown.value.status == 404
    with pytest.raises(ReplicateError) as invalid:
        replicate.run(MODEL, input={"prompt": "x", "width": 65})
    assert invalid.value.status == 422
    assert "multiple of 16" in (invalid.value.detail or "")


def test_the_hardware_is_what_workers_draw_on(replicate: Client, service: Service) -> None:
    def listed() -> list[tuple[str, str]]:
        return [(each.name, each.sku) for each in replicate.hardware.list()]

    assert listed() == [("GPU", "gpu")], "the blank engine draws on no device"
    worker = WorkerRow(uuid4(), "elsewhere", 1, "darkroom/nobody", "idle", device="NVIDIA H200")
    with connect(service.settings.database_url, application_name="test") as conn:
        say_alive(conn, worker)
        try:
            assert listed() == [("NVIDIA H200", "nvidia-h200")]
        finally:
            say_goodbye(conn, worker.id)


def test_deployments_are_created_listed_changed_drawn_with_and_deleted(replicate: Client) -> None:
    version = replicate.models.get(MODEL).latest_version
    assert version is not None
    made = replicate.deployments.create(
        name="darkroom/by-replicate",
        model=MODEL,
        version=version.id,
        hardware="gpu-t4",
        min_instances=0,
        max_instances=2,
    )
    try:
        assert made.id == "darkroom/by-replicate"
        assert made.current_release is not None
        assert made.current_release.created_by is not None
        assert (made.current_release.model, made.current_release.version) == (MODEL, version.id)
        assert made.id in [each.id for each in replicate.deployments.list().results]
        changed = replicate.deployments.update("darkroom", "by-replicate", min_instances=1).current_release
        assert changed is not None
        assert (changed.number, changed.configuration.min_instances, changed.configuration.max_instances) == (2, 1, 2)
        found = replicate.deployments.get("darkroom/by-replicate")
        assert found.current_release == changed
        for prediction in (
            found.predictions.create(INPUT, wait=True),
            replicate.deployments.predictions.create("darkroom/by-replicate", INPUT, wait=True),
        ):
            assert (prediction.status, prediction.model) == ("succeeded", MODEL)
    finally:
        assert replicate.deployments.delete("darkroom", "by-replicate")
    with pytest.raises(ReplicateError) as gone:
        replicate.deployments.get("darkroom/by-replicate")
    assert gone.value.status == 404
