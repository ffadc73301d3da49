"""The examples of docs/integrations.md, as they are printed: n8n's body submits, Flask's receiver gets the webhook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import requests

from tests.conftest import REPOSITORY
from tests.support.receivers import Received, Receiver
from tests.support.serving import Service

PAGE = (REPOSITORY / "docs" / "integrations.md").read_text(encoding="utf-8")
N8N = re.findall(r"^ +\{\{ (\{.*\}) \}\}$", PAGE, re.MULTILINE)
FLASK = re.findall(r"^```python\n(.*?from flask .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PROMPT = 'a "red" circle\non {{ blue }} \\ paper'


@pytest.fixture(scope="module")
def webhook(service: Service) -> Received:
    """What arrives after n8n's body was posted, with the expression evaluated as n8n does: as JavaScript."""
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    (expression,) = (body.replace("darkroom/pocket", "darkroom/blank") for body in N8N)
    with Receiver().serving() as receiver:
        given = f"const $json = {json.dumps({'prompt': PROMPT})}, $execution = {{ resumeUrl: {receiver.url!r} }};"
        program = f"{given} console.log(JSON.stringify({expression}))"
        evaluated = subprocess.run([node, "-e", program], capture_output=True, text=True, timeout=30, check=True)
        made = requests.post(f"{service.url}/v1/predictions", json=json.loads(evaluated.stdout), timeout=30)
        assert made.status_code == 201, made.text
        assert made.json()["input"] == {"prompt": PROMPT}
        (received,) = receiver.wait_for(1)
        return received


def test_n8ns_body_brings_one_webhook_with_the_finished_prediction(webhook: Received) -> None:
    prediction = json.loads(webhook.body)
    assert prediction["status"] == "succeeded"
    assert len(prediction["output"]) == 1


def test_flasks_receiver_takes_what_was_signed_and_nothing_else(
    webhook: Received, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = requests.get(f"{service.url}/v1/webhooks/default/secret", timeout=30).json()["key"]
    monkeypatch.setenv("DARKROOM_WEBHOOK_SECRET", secret)
    (program,) = FLASK
    names: dict[str, object] = {"__name__": "receiver"}
    exec(program, names)  # noqa: S102 (the printed example)
    client = names["app"].test_client()  # type: ignore[attr-defined]
    for _ in range(2):  # the second time it is known, and not acted on
        assert client.post("/darkroom", data=webhook.body, headers=webhook.headers).status_code == 204
    assert capsys.readouterr().out.count("succeeded") == 1
    assert client.post("/darkroom", data=webhook.body + b" ", headers=webhook.headers).status_code == 401
