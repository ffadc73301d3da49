"""OpenAI's edits and variations: forms with pictures, answered and streamed like generations."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from storage.postgres.database import Connection, connect
from storage.postgres.procrastinate import queue_name_of
from storage.predictions.finish import StoredImage, Succeeded, finish
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket
from tests.pictures import file_of, picture, stored_picture
from tests.support.making import claim_one, count

RED = file_of(picture())
OPAQUE = file_of(picture(64, 64, (0, 0, 0, 255), "RGBA"))


@pytest.fixture
def catalog(pictures_catalog: Path) -> Path:
    return pictures_catalog


@contextmanager
def drawing(settings: ApiSettings, renderer: Renderer, bucket: Bucket, model: str = "darkroom/blank") -> Iterator[None]:
    """A worker's part: the next prediction succeeds with a picture."""
    ended = threading.Event()

    def draw() -> None:
        with connect(settings.database_url, application_name="test") as conn:
            while (claimed := claim_one(conn, renderer, queue_name=queue_name_of(model))) is None:
                if ended.wait(0.02):
                    return
            number = claimed.prediction["parameters"]["num_outputs"]
            images = []
            for index in range(number):
                key = f"{settings.s3_prefix}/predictions/{claimed.prediction_id}/1-{claimed.claim_id}/{index}.png"
                bucket.put(key, RED, "image/png")
                images.append(StoredImage(key, "0" * 64, len(RED), "image/png", 64, 64, 7))
            finish(conn, renderer, claimed.prediction_id, Succeeded(images), claim_id=claimed.claim_id)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def part(data: bytes = RED, name: str = "a.png") -> tuple[io.BytesIO, str, str]:
    return io.BytesIO(data), name, "image/png"


def parameters(conn: Connection) -> dict[str, Any]:
    row = conn.execute("SELECT parameters FROM predictions").fetchone()
    assert row is not None
    return dict(row["parameters"])


def test_an_edit_with_a_mask_repaints_what_is_transparent(
    client: FlaskClient, conn: Connection, settings: ApiSettings, renderer: Renderer, bucket: Bucket
) -> None:
    mask = picture(64, 64, (0, 0, 0, 255), "RGBA")
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    form = {"image": part(), "mask": part(file_of(mask)), "prompt": "a hat", "n": "2", "seed": "-1",
            "model": "dall-e-2", "size": "auto", "num_inference_steps": "3", "strength": "0.9"}  # fmt: skip
    with drawing(settings, renderer, bucket):
        answer = client.post("/v1/images/edits", data=form)
    assert answer.status_code == 200, answer.text
    said = answer.get_json()
    assert len(said["data"]) == 2
    assert said["usage"]["input_tokens_details"] == {"image_tokens": 16, "text_tokens": 2}
    assert said["usage"]["output_tokens"] == 32
    drawn = parameters(conn)
    assert (drawn["num_inference_steps"], drawn["strength"]) == (3, 0.9)
    stored = stored_picture(bucket, settings, drawn["mask"])
    assert (stored.mode, stored.getpixel((0, 0)), stored.getpixel((40, 0))) == ("L", 255, 0)


def test_an_edit_is_streamed_with_its_own_event_names(
    client: FlaskClient, settings: ApiSettings, renderer: Renderer, bucket: Bucket
) -> None:
    form = {"image[]": part(), "prompt": "a hat", "stream": "true", "partial_images": "1"}
    with drawing(settings, renderer, bucket):
        text = client.post("/v1/images/edits", data=form).get_data(as_text=True)
    data = json.loads(text.partition("data: ")[2].partition("\n")[0])
    assert data["type"] == "image_edit.completed"
    assert data["b64_json"]


def test_a_variation_needs_no_prompt(
    client: FlaskClient, conn: Connection, settings: ApiSettings, renderer: Renderer, bucket: Bucket
) -> None:
    with drawing(settings, renderer, bucket):
        answer = client.post("/v1/images/variations", data={"image": part(), "response_format": "url"})
    assert answer.status_code == 200, answer.text
    assert set(answer.get_json()["data"][0]) == {"url"}
    assert parameters(conn)["strength"] == 0.6


@pytest.mark.parametrize(
    ("form", "param", "words"),
    [
        ({"prompt": "a"}, "image", "is required"),
        ({"image": part(), "prompt": ""}, "prompt", "must not be empty"),
        ({"image": part()}, "prompt", "is required"),
        ({"image": part(b"GIF89a"), "prompt": "a"}, "image", "GIF"),
        ({"image": part(), "mask": part(), "prompt": "a"}, "mask", "no transparent area"),
        ({"image": part(), "mask": part(OPAQUE), "prompt": "a"}, "mask", "no transparent area"),
        ({"image": part(), "prompt": "a", "n": "11"}, "n", "limit"),
        ({"image": part(), "prompt": "a", "n": "many"}, "n", "integer"),
        ({"image": part(), "prompt": "a", "size": "huge"}, "size", "WIDTHxHEIGHT"),
        ({"image": part(), "prompt": "a", "strength": "0"}, "strength", "greater than 0"),
        ({"image": part(), "prompt": "a", "strength": "2"}, "strength", "less than or equal"),
        ({"image": part(), "prompt": "a", "model": "darkroom/text-only"}, "image", "takes no image"),
        ({"image": part(), "prompt": "a", "metadata": "{"}, "metadata", "JSON"),
    ],
)
def test_a_bad_edit_is_400_in_openais_shape(
    client: FlaskClient, conn: Connection, form: dict[str, Any], param: str, words: str
) -> None:
    form = {name: part(value[0].getvalue()) if isinstance(value, tuple) else value for name, value in form.items()}
    answer = client.post("/v1/images/edits", data=form, content_type="multipart/form-data")
    assert answer.status_code == 400, answer.text
    error = answer.get_json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert words in error["message"]
    assert count(conn, "predictions") == 0


def test_more_images_than_a_model_takes_are_400_with_its_number(client: FlaskClient) -> None:
    form = {"image[]": [part(), part()], "prompt": "a"}
    answer = client.post("/v1/images/edits", data=form, content_type="multipart/form-data")
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert error["param"] == "image"
    assert "2 images were sent; darkroom/blank takes one image" in error["message"]


def test_two_masks_are_400(client: FlaskClient) -> None:
    form = {"image": part(), "mask": [part(), part()], "prompt": "a"}
    answer = client.post("/v1/images/edits", data=form, content_type="multipart/form-data")
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert (error["param"], error["message"]) == ("mask", "mask: 2 masks were sent; one is taken")


def test_an_edit_that_is_no_form_is_415(client: FlaskClient) -> None:
    assert client.post("/v1/images/edits", json={"prompt": "a"}).status_code == 415
