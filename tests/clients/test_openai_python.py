"""`openai`, as it is installed from PyPI, against the running service."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import openai
import pytest
import requests
from openai import OpenAI
from PIL import Image

from storage.postgres.database import connect
from tests.support.drawing_news import drawing_news
from tests.support.serving import Service


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with OpenAI(api_key="any", base_url=f"{service.url}/v1", max_retries=0) as opened:
        yield opened


def picture(base64_text: str | None) -> Image.Image:
    assert base64_text is not None
    return Image.open(io.BytesIO(base64.b64decode(base64_text)))


@pytest.mark.parametrize("model", ["dall-e-3", "gpt-image-1", "darkroom/blank"])
@pytest.mark.parametrize("count", [1, 3])
def test_without_a_response_format_the_answer_holds_the_url_and_the_picture(
    client: OpenAI, model: str, count: int
) -> None:
    answer = client.images.generate(model=model, prompt="a red circle", n=count)
    assert answer.data is not None
    assert len(answer.data) == count
    for image in answer.data:
        assert image.url is not None
        assert image.b64_json is not None
        assert base64.b64decode(image.b64_json) == requests.get(image.url, timeout=30).content
    raw = client.images.with_raw_response.generate(model=model, prompt="a red circle", n=count)
    assert int(raw.headers["Content-Length"]) == len(raw.content)


@pytest.mark.parametrize("count", [1, 3])
def test_with_a_response_format_it_holds_only_what_was_asked_for(client: OpenAI, count: int) -> None:
    for format_, other in (("url", "b64_json"), ("b64_json", "url")):
        raw = client.images.with_raw_response.generate(
            prompt="a red circle", n=count, response_format="url" if format_ == "url" else "b64_json"
        )
        assert all(image[format_] and other not in image for image in json.loads(raw.content)["data"])
        assert int(raw.headers["Content-Length"]) == len(raw.content)


def test_usage_counts_what_was_asked_and_drawn(client: OpenAI) -> None:
    prompt = "ein roter Kreis, größer"  # 23 characters, 25 bytes
    usage = client.images.generate(prompt=prompt, size="128x64", n=10).usage
    assert usage is not None
    assert usage.output_tokens_details is not None
    assert (usage.input_tokens, usage.input_tokens_details.text_tokens) == (7, 7)
    assert (usage.output_tokens, usage.output_tokens_details.image_tokens) == (320, 320)  # 10 × 8 × 4 squares of 16
    assert usage.total_tokens == 327
    [event] = client.images.generate(prompt=prompt, size="128x64", stream=True)
    assert event.type == "image_generation.completed"
    assert (event.usage.input_tokens, event.usage.output_tokens, event.usage.total_tokens) == (7, 32, 39)


def test_generate_gives_a_url_that_serves_the_picture(client: OpenAI) -> None:
    answer = client.images.generate(model="dall-e-3", prompt="a red circle", size="128x64")
    assert answer.data is not None
    assert answer.data[0].url is not None
    assert Image.open(io.BytesIO(requests.get(answer.data[0].url, timeout=30).content)).size == (128, 64)
    assert answer.created > 0


@pytest.mark.parametrize(("format_", "is_"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_generate_base64_in_each_format(client: OpenAI, format_: Literal["png", "jpeg", "webp"], is_: str) -> None:
    answer = client.images.generate(
        model="darkroom/blank",
        prompt="a red circle",
        n=4,
        response_format="b64_json",
        output_format=format_,
        output_compression=50,
        size="auto",
        quality="high",
        user="me",
        background="opaque",
        moderation="low",
    )
    assert answer.data is not None
    assert [(picture(image.b64_json).format, picture(image.b64_json).size) for image in answer.data] == [
        (is_, (64, 64))
    ] * 4
    assert answer.output_format == format_


def test_the_first_model_of_the_catalog_is_the_default(client: OpenAI) -> None:
    answer = client.images.generate(prompt="a red circle", extra_body={"seed": 7})
    assert answer.data
    assert len(answer.data) == 1


def test_metadata_in_the_extra_body_is_the_predictions(client: OpenAI, service: Service) -> None:
    client.images.generate(prompt="a red circle", extra_body={"metadata": {"order": 17}})
    found = requests.get(f"{service.url}/v1/predictions", {"metadata": '{"order": 17}'}, timeout=30).json()["results"]
    assert [each["metadata"] for each in found] == [{"order": 17}]


def test_stream_with_partial_images(client: OpenAI, service: Service) -> None:
    over = threading.Event()

    def preview() -> None:
        """More previews: on a busy machine, the newest one of the engine's own few replaces the others."""
        with (
            connect(service.settings.database_url, application_name="test") as conn,
            drawing_news(service.settings) as news,
        ):
            while not over.wait(0.1):
                row = conn.execute("SELECT id FROM predictions WHERE status = 'processing'").fetchone()
                if row is not None:
                    news.tell(row["id"], 7, 8, Image.new("RGB", (16, 16), "red"))

    previews = threading.Thread(target=preview)
    previews.start()
    try:
        events = list(
            client.images.generate(model="darkroom/slow", prompt="a red circle", stream=True, partial_images=2)
        )
    finally:
        over.set()
        previews.join()
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert events[0].type == "image_generation.partial_image"
    assert events[0].partial_image_index == 0
    assert picture(events[0].b64_json).size in ((8, 8), (16, 16))  # the engine's own, or ours
    assert picture(events[-1].b64_json).size == (64, 64)


@pytest.mark.parametrize(
    ("response_format", "holds"), [(None, {"url", "b64_json"}), ("url", {"url"}), ("b64_json", {"b64_json"})]
)
def test_a_stream_holds_the_same_as_an_answer(client: OpenAI, response_format: Any, holds: set[str]) -> None:
    asked: dict[str, Any] = {} if response_format is None else {"response_format": response_format}
    events = list(client.images.generate(prompt="a red circle", n=2, stream=True, **asked))
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    for event in events:
        told = event.model_dump(exclude_unset=True)
        assert {"url", "b64_json"} & set(told) == holds
        if holds == {"url", "b64_json"}:
            assert base64.b64decode(told["b64_json"]) == requests.get(told["url"], timeout=30).content


def test_a_stream_without_partial_images_is_one_event(client: OpenAI) -> None:
    events = list(client.images.generate(model="gpt-image-1", prompt="a red circle", stream=True))
    assert [event.type for event in events] == ["image_generation.completed"]


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"size": "65x64"}, "size"),
        ({"size": "big"}, "size"),
        ({"size": "9999999x64"}, "size"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"response_format": "gif"}, "response_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": "x" * 5000}, "prompt"),
    ],
)
def test_what_is_wrong_is_named_as_openai_names_it(client: OpenAI, asked: dict[str, Any], parameter: str) -> None:
    request: dict[str, Any] = {"model": "darkroom/blank", "prompt": "a red circle"} | asked
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**request)
    assert refused.value.param == parameter
    assert refused.value.type == "invalid_request_error"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.images.generate(model="dall-e-99", prompt="a red circle")
    assert refused.value.code == "model_not_found"
    assert "darkroom/blank" in refused.value.message


def test_a_prediction_that_is_canceled_is_an_error_and_not_repeated(service: Service) -> None:
    with OpenAI(api_key="any", base_url=f"{service.url}/v1") as client:  # with its own retries
        errors: list[Exception] = []

        def generate() -> None:
            try:
                client.images.generate(model="darkroom/nobody", prompt="cancel me")
            except openai.APIStatusError as error:
                errors.append(error)

        waiting = threading.Thread(target=generate)
        waiting.start()
        url = f"{service.url}/v1/predictions"
        mine: list[str] = []
        give_up_at = time.monotonic() + 60
        while not mine:
            listed = requests.get(url, timeout=30).json()["results"]
            mine = [row["id"] for row in listed if row["input"].get("prompt") == "cancel me"]
            assert time.monotonic() < give_up_at
        requests.post(f"{url}/{mine[0]}/cancel", timeout=30)
        waiting.join(60)
    assert [type(error) for error in errors] == [openai.ConflictError]
    listed = requests.get(url, timeout=30).json()["results"]
    assert sum(row["input"].get("prompt") == "cancel me" for row in listed) == 1


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["darkroom/blank", "darkroom/slow", "darkroom/nobody"]
    assert client.models.retrieve("dall-e-3").owned_by == "darkroom"
    assert client.models.retrieve("darkroom/blank").id == "darkroom/blank"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-7")
    assert (refused.value.type, isinstance(refused.value.body, dict)) == ("invalid_request_error", True)


ELSEWHERE: dict[str, Callable[[OpenAI], object]] = {
    "/v1/chat/completions": lambda client: client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "a red circle"}]
    ),
    "/v1/completions": lambda client: client.completions.create(model="gpt-4o", prompt="a red circle"),
    "/v1/responses": lambda client: client.responses.create(model="gpt-4o", input="a red circle"),
    "/v1/embeddings": lambda client: client.embeddings.create(model="x", input="a red circle"),
    "/v1/moderations": lambda client: client.moderations.create(input="a red circle"),
    "/v1/audio/speech": lambda client: client.audio.speech.create(model="x", voice="alloy", input="x"),
    "/v1/batches": lambda client: client.batches.list(),
    "/v1/nothing": lambda client: client.get("/nothing", cast_to=object),
}


@pytest.mark.parametrize("path", ELSEWHERE)
def test_what_is_not_there_says_so_in_openai_s_words(client: OpenAI, path: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        ELSEWHERE[path](client)
    assert (refused.value.type, refused.value.code) == ("invalid_request_error", "unknown_url")
    assert path in refused.value.message
    assert "/v1/images/generations" in refused.value.message


def test_a_list_of_models_that_is_refused_says_so_in_openai_s_words(client: OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.models.list(extra_query={"limit": 3})
    assert (refused.value.type, refused.value.param) == ("invalid_request_error", "limit")
