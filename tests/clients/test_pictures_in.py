"""Pictures in requests with the unmodified clients of Python: `replicate` 1.x and `openai`."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
import requests
from openai import OpenAI
from replicate.client import Client

from storage.postgres.database import connect
from tests.pictures import file_of, picture
from tests.support.serving import Service

MODEL = "darkroom/blank"
RED = file_of(picture())


@pytest.fixture
def replicate(service: Service) -> Iterator[Client]:
    client = Client(api_token="r8_any", base_url=service.url)
    yield client
    client._client.close()  # it has no public way to be closed


@pytest.fixture
def openai_client(service: Service) -> Iterator[OpenAI]:
    with OpenAI(api_key="any", base_url=f"{service.url}/v1", max_retries=0) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(RED)
    return path


def started_from(service: Service, prompt: str) -> list[dict[str, Any]]:
    """The parameters of the predictions with that prompt."""
    with connect(service.settings.database_url, application_name="test") as conn:
        rows = conn.execute("SELECT parameters FROM predictions WHERE input->>'prompt' = %s", (prompt,)).fetchall()
    return [row["parameters"] for row in rows]


@pytest.mark.parametrize("strategy", ["url", "base64"])
def test_replicates_client_sends_an_open_file(
    replicate: Client, service: Service, path: Path, strategy: Literal["url", "base64"]
) -> None:
    prompt = f"an open file by {strategy}"
    with path.open("rb") as file:
        output = replicate.run(
            MODEL, input={"prompt": prompt, "image": file, "strength": 0.5}, file_encoding_strategy=strategy
        )
    assert isinstance(output, list)
    assert len(output) == 1
    [parameters] = started_from(service, prompt)
    assert (len(parameters["image"]), parameters["strength"]) == (64, 0.5)


def test_replicates_client_manages_files(replicate: Client, path: Path) -> None:
    made = replicate.files.create(path, metadata={"project": "x"})
    assert (made.name, made.content_type, made.size, made.metadata) == (
        "a.png",
        "image/png",
        len(RED),
        {"project": "x"},
    )
    assert replicate.files.get(made.id) == made
    assert made in replicate.files.list()
    assert requests.get(made.urls["download"], timeout=30).content == RED
    assert replicate.files.delete(made.id)
    assert made not in replicate.files.list()


def test_replicates_client_draws_from_what_it_drew(replicate: Client, service: Service) -> None:
    [drawn] = replicate.run(MODEL, input={"prompt": "the first of two"})
    replicate.run(MODEL, input={"prompt": "the second of two", "image": drawn})
    assert len(started_from(service, "the second of two")[0]["image"]) == 64


def mask() -> bytes:
    image = picture(64, 64, (0, 0, 0, 255), "RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    return file_of(image)


def test_openais_client_edits_with_a_mask(openai_client: OpenAI, service: Service, path: Path) -> None:
    with path.open("rb") as file:
        answer = openai_client.images.edit(
            model="gpt-image-1",
            image=file,
            mask=("mask.png", mask(), "image/png"),
            prompt="an edit with a mask",
            n=2,
            size="auto",
            extra_body={"seed": 7},
        )
    assert answer.data is not None
    assert answer.usage is not None
    assert len(answer.data) == 2
    assert answer.usage.input_tokens_details.image_tokens == 16
    assert base64.b64decode(answer.data[0].b64_json or "")[1:4] == b"PNG"
    [parameters] = started_from(service, "an edit with a mask")
    assert parameters["seed"] == 7
    assert len(parameters["mask"]) == 64


def test_openais_client_edits_a_list_of_one_image(openai_client: OpenAI) -> None:
    answer = openai_client.images.edit(image=[io.BytesIO(RED)], prompt="a list of one", response_format="url")
    assert answer.data is not None
    assert requests.get(answer.data[0].url or "", timeout=30).status_code == 200


def test_openais_client_hears_that_several_images_are_too_many(openai_client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        openai_client.images.edit(image=[io.BytesIO(RED), io.BytesIO(RED)], prompt="two images")
    assert refused.value.param == "image"
    assert "2 images were sent; darkroom/blank takes one image" in refused.value.message


def test_openais_client_edits_from_several_images(openai_client: OpenAI, service: Service) -> None:
    blue = file_of(picture(64, 64, "blue"))
    answer = openai_client.images.edit(
        model="darkroom/slow", image=[io.BytesIO(RED), io.BytesIO(blue)], prompt="an edit from two"
    )
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 2 * 16
    [parameters] = started_from(service, "an edit from two")
    assert len({parameters["image"], *parameters["more_images"]}) == 2


def test_replicates_client_sends_several_open_files(replicate: Client, service: Service, path: Path) -> None:
    with path.open("rb") as first, path.open("rb") as second:
        for strategy in ("url", "base64"):
            asked = {"prompt": f"two files by {strategy}", "image": [first, second], "num_inference_steps": 1}
            replicate.run("darkroom/slow", input=asked, file_encoding_strategy=strategy)
            first.seek(0)
            second.seek(0)
            [parameters] = started_from(service, f"two files by {strategy}")
            assert parameters["more_images"] == [parameters["image"]]


def test_openais_client_streams_an_edit(openai_client: OpenAI) -> None:
    with openai_client.images.edit(image=io.BytesIO(RED), prompt="a streamed edit", stream=True) as stream:
        events = list(stream)
    assert events[-1].type == "image_edit.completed"
    assert base64.b64decode(events[-1].b64_json)[1:4] == b"PNG"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's own service is ending it
def test_openais_client_makes_a_variation(openai_client: OpenAI) -> None:
    answer = openai_client.images.create_variation(image=io.BytesIO(RED), n=2)
    assert answer.data is not None
    assert len(answer.data) == 2
