"""Run by the Python of another environment, in which `replicate` 2.x is installed: prints what it got as JSON.

Its base URL and token are in REPLICATE_BASE_URL and REPLICATE_API_TOKEN, where `replicate.use` looks for them too; the
first argument says which of the functions below is run, the others are its own.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import replicate as replicate_module

replicate: Any = replicate_module  # mypy sees 1.x
files: Any = import_module("replicate.lib._files")


def inputs(**more: Any) -> dict[str, Any]:
    """Nobody asked for that before: it is drawn, not taken from the cache of results."""
    return {"prompt": uuid4().hex} | more


def create(client: Any, model: str, **more: Any) -> Any:
    return client.models.predictions.create(model_owner="darkroom", model_name=model, **({"input": inputs()} | more))


def refusal(call: Callable[[], Any]) -> dict[str, Any]:
    """The error that a call ends with, as the client tells it."""
    try:
        call()
    except replicate.APIStatusError as error:
        return {
            "error": type(error).__name__,
            "status": error.status_code,
            "detail": error.body["detail"],
            "retry_after": error.response.headers.get("Retry-After"),
        }
    return {}


def running(client: Any) -> dict[str, Any]:
    """Everything that makes a picture come."""
    said: dict[str, Any] = {}
    [url] = client.run("darkroom/blank", input=inputs())
    said["run"] = url
    model = client.models.get(model_owner="darkroom", model_name="blank")
    said["run_by_version"] = len(client.run(f"darkroom/blank:{model.latest_version.id}", input=inputs()))
    said["run_polling"] = len(client.run("darkroom/blank", input=inputs(), wait=False))
    said["used"] = len(list(replicate.use("darkroom/blank")(**inputs())))
    said["used_by_version"] = len(list(replicate.use("darkroom/slow:slow-1")(**inputs())))
    # Over https, run gives these by itself.
    said["signature"] = files.FileOutput(str(url), client).read()[:4].hex()
    said["chunks_in_all"] = len(b"".join(files.FileOutput(str(url), client)))

    created = create(client, "slow")
    said["created"] = created.status
    said["waited"] = client.predictions.wait(created.id).status
    said["preferred"] = create(client, "blank", prefer="wait=30").status
    said["too_short"] = create(client, "nobody", prefer="wait=1").status
    said["drawn_by_version"] = client.predictions.create(
        version=model.latest_version.id, input=inputs(), prefer="wait=30"
    ).status
    waiting = create(client, "nobody")
    said["canceled"] = [client.predictions.cancel(prediction_id=waiting.id).status for _ in range(2)]
    said["reloaded"] = client.predictions.get(prediction_id=waiting.id).status

    async def run_async() -> int:
        async with replicate.AsyncReplicate() as asynchronous:
            return len(await asynchronous.run("darkroom/blank", input=inputs()))

    said["async"] = asyncio.run(run_async())
    return said


def following(client: Any) -> dict[str, Any]:
    """What is told while a picture is drawn. There is no `.progress` in 2.x; the logs hold what it was made of."""
    run = replicate.use("darkroom/slow").create(**inputs())
    steps: list[str] = []
    while not steps or steps[-1] != "8/8":
        steps += re.findall(r"\| (\d/8)", run.logs() or "")[-1:]
    prediction = client.predictions.get(prediction_id=run._prediction.id)
    streamed = list(replicate.use("darkroom/slow", streaming=True)(**inputs()))
    # urls.stream is never opened by 2.x itself; its reader of events is used as it would be.
    waiting = create(client, "slow", stream=True)
    with client.predictions.with_streaming_response.get(prediction_id=waiting.id) as answer:
        stream_url = answer.parse().urls.stream
    with client._client.stream("GET", stream_url) as answer:
        events = [event.event for event in client._make_sse_decoder().iter_bytes(answer.iter_bytes())]
    return {
        "steps": steps,
        "has_progress": hasattr(prediction, "progress"),
        "streamed": len(streamed),
        "events": sorted(set(events)),
        "last_event": events[-1],
    }


def listing(client: Any) -> dict[str, Any]:
    made = {create(client, "nobody").id for _ in range(105)}
    first = client.predictions.list()
    second = first.get_next_page()
    listed = [prediction.id for page in (first, second) for prediction in page.results]
    models = client.models.list()
    return {
        "first_page": len(first.results),
        "listed_twice": len(listed) - len(set(listed)),
        "unlisted": len(made - set(listed)),
        "unlisted_by_iterating": len(made - {prediction.id for prediction in client.predictions.list()}),
        "models": sorted(found.name for found in models),
        "versions": len(client.models.versions.list(model_owner="darkroom", model_name="blank").results),
        "account": client.account.get().username,
    }


def asking_for_a_webhook(client: Any, url: str) -> dict[str, Any]:
    """2.x fetches the secret; it has nothing that checks a signature."""
    prediction = create(client, "blank", webhook=url, webhook_events_filter=["completed"])
    return {"id": prediction.id, "secret": client.webhooks.default.secret.get().key}


def refusing(client: Any, breaks: str) -> dict[str, Any]:
    nobody = replicate.Replicate(bearer_token="r8_theirs", max_retries=0)
    return {
        "token": refusal(lambda: nobody.run("darkroom/blank", input=inputs())),
        "prediction": refusal(lambda: client.predictions.get(prediction_id="nothing")),
        "model": refusal(lambda: client.models.get(model_owner="no", model_name="model")),
        "input": refusal(lambda: client.run("darkroom/blank", input=inputs(width=65))),
        "version": refusal(lambda: client.run("darkroom/blank:1", input=inputs())),
        "bug": refusal(lambda: client.run("darkroom/blank", input={"prompt": breaks})),
    }


def going_too_fast(client: Any, prompt: str) -> dict[str, Any]:
    """Until it is refused; then once more with its own repeats, which wait as long as they are told."""
    refused: dict[str, Any] = {}
    while not refused:
        refused = refusal(lambda: create(client, "nobody"))
    patient = replicate.Replicate(max_retries=1)
    return refused | {"then": create(patient, "nobody", input={"prompt": prompt}).status}


def reading(client: Any, prediction_id: str) -> dict[str, Any]:
    return refusal(lambda: client.predictions.get(prediction_id=prediction_id))


def with_pictures(client: Any, file: str, strategy: str) -> dict[str, Any]:
    """Pictures in inputs, in every form that the client has for them."""
    said: dict[str, Any] = {}
    how = {} if strategy == "default" else {"file_encoding_strategy": strategy}
    prompt = f"2.x {strategy}"
    with open(file, "rb") as opened:
        said["run"] = len(
            client.run("darkroom/blank", input={"prompt": prompt, "image": opened, "strength": 0.5}, **how)
        )
    with open(file, "rb") as first, open(file, "rb") as second:
        several = {"prompt": f"{prompt}, several", "input_images": [first, second], "num_inference_steps": 1}
        said["several"] = len(client.run("darkroom/slow", input=several, **how))
    said["path"] = len(client.run("darkroom/blank", input={"prompt": f"{prompt}, path", "image": Path(file)}, **how))
    created = create(client, "blank", input={"prompt": f"{prompt}, created", "image": Path(file)}, **how)
    said["created"] = str(created.input["image"]).partition(",")[0]

    async def run_async() -> int:
        async with replicate.AsyncReplicate() as asynchronous:
            picture = {"prompt": f"{prompt}, async", "image": Path(file)}
            return len(await asynchronous.run("darkroom/blank", input=picture, **how))

    said["async"] = asyncio.run(run_async())
    if strategy == "default":
        said["used"] = len(list(replicate.use("darkroom/blank")(prompt=f"{prompt}, used", image=Path(file))))
    return said


def keeping_files(client: Any, file: str) -> dict[str, Any]:
    made = client.files.create(content=Path(file).read_bytes())
    said = {
        "size": made.size,
        "read": client.files.get(file_id=made.id).id == made.id,
        "listed": made.id in [each.id for each in client.files.list()],
        "deleted": client.files.delete(file_id=made.id) is None,
    }
    return said | {"then": refusal(lambda: client.files.get(file_id=made.id))["status"]}


def repeating(_: Any, prompt: str, key: str) -> dict[str, Any]:
    client = replicate.Replicate(max_retries=1)
    headers = {"extra_headers": {"Idempotency-Key": key}} if key else {}
    return {"drawn": len(client.run("darkroom/blank", input={"prompt": prompt}, **headers))}


def main() -> None:
    functions = (
        running, following, listing, asking_for_a_webhook, refusing, going_too_fast, reading, with_pictures,
        keeping_files, repeating,
    )  # fmt: skip
    asked: dict[str, Callable[..., dict[str, Any]]] = {function.__name__: function for function in functions}
    with replicate.Replicate(max_retries=0) as client:
        json.dump(asked[sys.argv[1]](client, *sys.argv[2:]), sys.stdout)


if __name__ == "__main__":
    main()
