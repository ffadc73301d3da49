"""Run by the Python of another environment, in which `replicate` 2.x is installed: prints what it got as JSON.

Its base URL and token are in REPLICATE_BASE_URL and REPLICATE_API_TOKEN, where `replicate.use` looks for them too.
"""

import json
import sys
from importlib import import_module
from typing import Any
from uuid import uuid4

import replicate as replicate_module

INPUT = {"prompt": "a red circle", "seed": 7}


replicate: Any = replicate_module  # mypy sees 1.x
FileOutput: Any = import_module("replicate.lib._files").FileOutput


def status_of(call: Any, *args: Any, **kwargs: Any) -> int | None:
    try:
        call(*args, **kwargs)
    except Exception as error:
        return getattr(error, "status_code", None)
    return None


def main() -> None:
    client: Any = replicate.Replicate(max_retries=0)
    said: dict[str, Any] = {}
    output = client.run("darkroom/blank", input=INPUT)
    said["run"] = len(output)
    said["bytes"] = len(FileOutput(str(output[0]), client).read())  # over https, run gives this by itself
    model = client.models.get(model_owner="darkroom", model_name="blank")
    said["run_by_version"] = len(client.run(f"darkroom/blank:{model.latest_version.id}", input=INPUT))
    created = client.models.predictions.create(model_owner="darkroom", model_name="slow", input=INPUT)
    said["created"] = created.status
    said["waited"] = client.predictions.wait(created.id).status
    waited = client.models.predictions.create(model_owner="darkroom", model_name="blank", input=INPUT, prefer="wait=30")
    said["preferred"] = waited.status
    canceled = client.models.predictions.create(model_owner="darkroom", model_name="nobody", input=INPUT)
    said["canceled"] = client.predictions.cancel(prediction_id=canceled.id).status
    named = {"model_owner": "darkroom", "model_name": "nobody", "extra_headers": {"Idempotency-Key": uuid4().hex}}
    said["sent_twice"] = len({client.models.predictions.create(**named, input=INPUT).id for _ in range(2)})
    said["listed"] = sum(1 for _ in client.predictions.list())
    said["models"] = sorted(found.name for found in client.models.list())
    said["versions"] = len(client.models.versions.list(model_owner="darkroom", model_name="blank").results)
    said["account"] = client.account.get().username
    said["secret"] = client.webhooks.default.secret.get().key[:6]
    said["used"] = len(list(replicate.use("darkroom/blank")(**INPUT)))
    said["missing"] = status_of(client.predictions.get, prediction_id="nothing")
    said["invalid"] = status_of(client.run, "darkroom/blank", input={"prompt": "x", "width": 65})
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
