"""npm's `openai`, as it is installed from the registry, against the running service."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import install_from_npm
from tests.clients.scripts import said_by
from tests.pictures import file_of, picture
from tests.support.serving import Service

NPM_OPENAI = "7.57.0"
PICTURES = {"PICTURE": picture(), "MASK": picture(64, 64, (0, 0, 0, 0), "RGBA")}
SCRIPT = Path(__file__).parent / "openai_npm.mjs"


@pytest.fixture(scope="module")
def said(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client got, by test: all in one Node process."""
    folder = install_from_npm(tmp_path_factory.mktemp("npm-openai"), f"openai@{NPM_OPENAI}")
    shutil.copy(SCRIPT, folder)
    pictures = {name: base64.b64encode(file_of(image)).decode() for name, image in PICTURES.items()}
    return said_by(["node", SCRIPT.name], cwd=folder, env=os.environ | {"BASE_URL": f"{service.url}/v1"} | pictures)


def test_an_answer_holds_both_the_url_and_the_picture(said: dict[str, Any]) -> None:
    assert said["same"] == [True, True]


def test_usage_is_counted(said: dict[str, Any]) -> None:
    assert said["usage"]["input_tokens"] == 3  # "a red circle" has 12 bytes
    assert said["usage"]["output_tokens"] == 2 * 16  # 64 × 64 pixels are 16 squares of 16
    assert said["usage"]["total_tokens"] == 35


def test_a_stream_holds_the_picture(said: dict[str, Any]) -> None:
    assert [event["type"] for event in said["stream"]] == ["image_generation.completed"]
    assert said["stream"][0]["bytes"] > 50


@pytest.mark.parametrize("what", ["chat", "responses", "embeddings", "unknown"])
def test_what_is_not_there_has_a_message(said: dict[str, Any], what: str) -> None:
    refused = said[what]
    assert refused["status"] == 404
    assert "there is no route" in refused["message"]
    assert "/v1/images/generations" in refused["message"]
    assert (refused["type"], refused["code"]) == ("invalid_request_error", "unknown_url")


def test_an_empty_prompt_is_a_bad_request(said: dict[str, Any]) -> None:
    assert (said["empty"]["status"], said["empty"]["param"]) == (400, "prompt")


def test_edits_and_variations_are_drawn(said: dict[str, Any]) -> None:
    assert said["edited"] == [True, True]
    assert said["edited_one_of_a_list"] == 1
    assert said["edited_from_two"] == 2 * 16
    assert said["edit_stream"][-1] == "image_edit.completed"
    assert said["varied"] == 1


def test_several_images_are_refused(said: dict[str, Any]) -> None:
    assert (said["edited_several"]["status"], said["edited_several"]["param"]) == (400, "image")
