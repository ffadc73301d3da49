"""Pictures that predictions start from: where they may come from, what is stored, and what is told."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from api.settings import ApiSettings
from storage.access.tokens import create_token
from storage.postgres.database import Connection
from storage.predictions.object_keys import input_key, inputs_folder
from storage.predictions.render import Renderer
from storage.predictions.retention.delete import delete_prediction
from storage.predictions.retention.expiry import bury_objects, expire_predictions, remove_bytes
from storage.s3.bucket import Bucket
from tests.pictures import data_url, file_of, picture, stored_picture
from tests.support.api_app import post, problem, serving, submit
from tests.support.making import count
from tests.support.receivers import Answer, Receiver

RED = file_of(picture())


@pytest.fixture
def api_settings(settings: ApiSettings, pictures_catalog: Path) -> ApiSettings:
    return settings.model_copy(update={"models": pictures_catalog, "input_image_allow": "127.0.0.1"})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


def parameters_of(conn: Connection, prediction: dict[str, Any]) -> dict[str, Any]:
    row = conn.execute("SELECT parameters FROM predictions WHERE id = %s", (prediction["id"],)).fetchone()
    assert row is not None
    return dict(row["parameters"])


def test_a_data_url_is_stored_and_only_described_in_the_prediction(
    client: FlaskClient, conn: Connection, bucket: Bucket, settings: ApiSettings
) -> None:
    made = submit(client, input={"prompt": "a circle", "image": data_url(RED), "strength": 0.3})
    digest = hashlib.sha256(RED).hexdigest()
    assert made["input"]["image"] == f"data:image/png;base64,… ({len(RED)} bytes, SHA-256 {digest})"
    parameters = parameters_of(conn, made)
    assert (parameters["strength"], parameters["width"], parameters["height"]) == (0.3, 64, 64)
    stored = stored_picture(bucket, settings, parameters["image"])
    assert (stored.mode, stored.size, stored.getpixel((5, 5))) == ("RGB", (64, 64), (255, 0, 0))


def test_logs_say_what_of_the_image_is_cropped_and_that_a_mask_marks_nothing(client: FlaskClient) -> None:
    def logs(image: Image.Image, mask: Image.Image | None = None, **more: Any) -> str:
        sent = {"image": data_url(file_of(image))} | ({} if mask is None else {"mask": data_url(file_of(mask))})
        made = submit(client, input={"prompt": "a", "seed": 7} | sent | more)
        return str(made["logs"]).removeprefix("Using seed: 7\n")

    square: dict[str, Any] = {"width": 64, "height": 64}
    left = picture(256, 128, "black", "L")
    left.paste(255, (0, 0, 60, 128))
    cropped = "The start image was cropped from 256x128 to 128x128, around its centre: the drawing is 64x64\n"
    nothing = "The mask is black everywhere that is drawn: nothing is repainted"
    assert logs(picture(256, 128)) == ""
    assert logs(picture(256, 128), **square) == cropped
    assert logs(picture(256, 128), left) == ""
    assert logs(picture(256, 128), left, **square).startswith(cropped + nothing)
    left.paste(255, (0, 0, 70, 128))
    assert logs(picture(256, 128), left, **square) == cropped
    assert logs(picture(100, 60)) == (
        "The start image was cropped from 100x60 to 100x57, around its centre: the drawing is 112x64\n"
    )
    assert logs(picture(), picture(64, 64, "black", "L")).startswith(nothing)
    transparent = picture(64, 64, "black", "RGBA")
    transparent.paste((255, 255, 255, 0), (0, 0, 32, 64))
    assert logs(picture(), transparent).startswith(nothing)
    assert logs(picture(), picture(64, 64, "white", "L")) == ""


def test_an_input_with_sent_pictures_can_be_sent_again_as_it_is_shown(client: FlaskClient, conn: Connection) -> None:
    mask = picture(64, 64, "black", "L")
    mask.paste(255, (0, 0, 32, 64))
    given = {"prompt": "a", "seed": 1, "image": data_url(file_of(picture(1000, 500))), "mask": data_url(file_of(mask))}
    first = submit(client, input=given)
    second = submit(client, input=first["input"])
    third = submit(client, input=second["input"])
    assert first["input"] == second["input"] == third["input"]
    assert parameters_of(conn, first) == parameters_of(conn, second) == parameters_of(conn, third)
    assert client.delete(f"/v1/predictions/{first['id']}").status_code == 204
    fourth = submit(client, input=second["input"])
    assert parameters_of(conn, fourth) == parameters_of(conn, second)


def test_a_mask_of_an_edit_can_be_sent_again_by_its_description(
    client: FlaskClient, conn: Connection, bucket: Bucket, settings: ApiSettings
) -> None:
    mask = picture(64, 64, (0, 0, 0, 255), "RGBA")
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    form = {"prompt": "a", "image": (io.BytesIO(RED), "a.png"), "mask": (io.BytesIO(file_of(mask)), "m.png"),
            "stream": "true"}  # fmt: skip
    client.post("/v1/images/edits", data=form).close()
    row = conn.execute("SELECT input, parameters FROM predictions").fetchone()
    assert row is not None
    again = parameters_of(conn, submit(client, input=row["input"]))
    assert (again["image"], again["mask"]) == (row["parameters"]["image"], row["parameters"]["mask"])
    swapped = problem(post(client, input=row["input"] | {"mask": row["input"]["image"]}), 422)
    assert swapped["invalid_fields"][0]["field"] == "input.mask"
    assert "no prediction of yours has such a mask" in swapped["detail"]


def test_nobody_gets_anothers_picture_by_its_description(app: Flask, conn: Connection) -> None:
    mine, other = (app.test_client() for _ in range(2))
    for client, name in ((mine, "mine"), (other, "other")):
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {create_token(conn, name)}"
    made = submit(mine, input={"prompt": "a", "image": data_url(RED)})
    never_sent = made["input"]["image"][:-65] + "0" * 64 + ")"
    refused = [
        problem(post(other, input=made["input"]), 422),
        problem(post(other, input={"prompt": "a", "image": never_sent}), 422),
    ]
    assert refused[0] == refused[1]
    assert refused[0]["invalid_fields"][0]["field"] == "input.image"
    assert count(conn, "predictions") == 1
    submit(mine, input=made["input"])
    submit(other, input={"prompt": "a", "image": data_url(RED)})
    submit(other, input=made["input"])  # now it is theirs, too


def test_a_description_of_what_is_gone_says_so(
    client: FlaskClient, conn: Connection, bucket: Bucket, settings: ApiSettings
) -> None:
    made = submit(client, input={"prompt": "a", "image": data_url(RED)})
    bucket.delete([input_key(settings.s3_prefix, parameters_of(conn, made)["image"])])
    lost = problem(post(client, input=made["input"]), 422)
    assert "the image store has lost this file" in lost["detail"]
    assert client.delete(f"/v1/predictions/{made['id']}").status_code == 204
    gone = problem(post(client, input=made["input"]), 422)
    assert "no prediction of yours has such an image (any more): send the picture itself" in gone["detail"]
    cut = problem(post(client, input={"prompt": "a", "image": made["input"]["image"][:50]}), 422)
    assert "only a part of a picture's description" in cut["detail"]


def test_a_picture_is_fetched_through_redirects_and_its_url_is_shown(
    client: FlaskClient, conn: Connection, receiver: Receiver, bucket: Bucket, settings: ApiSettings
) -> None:
    def answer(request: Any) -> Answer:
        if request.path == "/a.png":
            return Answer(302, {"Location": "/b.png"})
        return Answer(200, {"Content-Type": "image/png"}, RED)

    receiver.answer = answer
    url = f"{receiver.url.rpartition('/')[0]}/a.png"
    made = submit(client, input={"prompt": "a", "image_url": url})
    assert made["input"] == {"prompt": "a", "image_url": url}
    assert stored_picture(bucket, settings, parameters_of(conn, made)["image"]).size == (64, 64)


def test_the_size_follows_the_image_unless_it_is_given(client: FlaskClient, conn: Connection) -> None:
    def size(image: Image.Image, **more: Any) -> tuple[int, int]:
        made = submit(client, input={"prompt": "a", "image": data_url(file_of(image))} | more)
        return parameters_of(conn, made)["width"], parameters_of(conn, made)["height"]

    assert size(picture(100, 60)) == (112, 64)  # enlarged to the smallest side, in its shape
    assert size(picture(2000, 1000)) == (368, 176)  # within max_pixels, in its shape
    assert size(picture(3000, 10)) == (512, 64)  # within the sides
    assert size(picture(10, 10)) == (64, 64)
    assert size(picture(100, 60), width=128) == (128, 64)
    assert size(picture(100, 60), aspect_ratio="1:1") == (64, 64)


def test_a_mask_is_one_channel_and_draws_its_area_wholly_anew(
    client: FlaskClient, conn: Connection, bucket: Bucket, settings: ApiSettings
) -> None:
    mask = picture(64, 64, "black", "L")
    mask.paste(255, (0, 0, 32, 64))
    made = submit(client, input={"prompt": "a", "image": data_url(RED), "mask": data_url(file_of(mask))})
    parameters = parameters_of(conn, made)
    stored = stored_picture(bucket, settings, parameters["mask"])
    assert (stored.mode, stored.getpixel((0, 0)), stored.getpixel((40, 0))) == ("L", 255, 0)
    assert parameters.get("strength", 1.0) == 1.0


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"mask": data_url(RED)}, "input.mask", "needs an image"),
        (
            {"image": data_url(RED), "image_url": "https://example.com/a.png"},
            "input.image_url",
            "another name of image",
        ),
        ({"image": data_url(b"GIF89a" + b"\0" * 40)}, "input.image", "is a GIF file: PNG, JPEG and WebP are taken"),
        ({"image": "data:image/png;base64,@@@"}, "input.image", "not base64"),
        ({"image": "data:image/png,abc"}, "input.image", "data:image/png;base64"),
        ({"image": data_url(b"")}, "input.image", "is empty"),
        (
            {"image": "ftp://example.com/a.png"},
            "input.image",
            "https: URL, a data: URL, or the URL of an uploaded",
        ),
        ({"image": "a.png"}, "input.image", "https: URL, a data: URL, or the URL of an uploaded"),
        ({"image": "http://10.0.0.1/a.png"}, "input.image", "INPUT_IMAGE_ALLOW=10.0.0.1"),
        ({"image": data_url(RED), "strength": 0}, "input.strength", "greater than 0"),
        ({"image": data_url(RED), "strength": 1.5}, "input.strength", "less than or equal to 1"),
    ],
)
def test_what_can_not_be_drawn_from_is_422_and_names_field_and_reason(
    client: FlaskClient, conn: Connection, given: dict[str, Any], field: str, words: str
) -> None:
    refused = problem(post(client, input={"prompt": "a"} | given), 422)
    assert refused["invalid_fields"][0]["field"] == field
    assert words in refused["detail"]
    assert count(conn, "predictions") == 0


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"loras": [{"name": "pastel", "scale": 5}]}, "input.loras.0.scale", "less than or equal to 4 (got 5)"),
        ({"loras": ["pastel", {"name": "pastel", "scales": 1}]}, "input.loras.1.scales", "not permitted"),
        ({"loras": [{"name": 5}]}, "input.loras.0.name", "string (got 5)"),
        ({"loras": [{}]}, "input.loras.0.name", "is required"),
        ({"loras": [None]}, "input.loras.0", "string (got null)"),
        ({"loras": ["a\0"]}, "input.loras.0", "NUL"),
        ({"loras": "pastel"}, "input.loras", "list"),
        ({"image": 5}, "input.image", "string (got 5)"),
        ({"image": [None]}, "input.image.0", "string (got null)"),
        ({"image": {"url": "https://example.com"}}, "input.image", "string (got {"),
        ({"image": f"https://example.com/{'a' * 2000}"}, "input.image", "at most 2000 characters"),
        ({"image": "a\0"}, "input.image", "NUL"),
    ],
)
def test_a_value_of_a_wrong_kind_is_422_and_names_where_it_stands(
    client: FlaskClient, given: dict[str, Any], field: str, words: str
) -> None:
    refused = problem(post(client, input={"prompt": "a"} | given), 422)
    assert refused["invalid_fields"][0]["field"] == field
    assert words in refused["invalid_fields"][0]["description"]


def test_a_model_that_takes_no_pictures_names_those_that_do(client: FlaskClient) -> None:
    answer = post(client, model="darkroom/text-only", input={"prompt": "a", "image": data_url(RED)})
    assert "these models do: darkroom/blank" in problem(answer, 422)["detail"]


def test_equal_pictures_are_one_object_that_goes_with_the_last_prediction(
    client: FlaskClient, conn: Connection, bucket: Bucket, renderer: Renderer, settings: ApiSettings
) -> None:
    first, second = (submit(client, input={"prompt": "a", "image": data_url(RED), "seed": n}) for n in (1, 2))
    key = input_key(settings.s3_prefix, parameters_of(conn, first)["image"])
    assert count(conn, "objects") == 1
    assert delete_prediction(conn, renderer, first["id"])
    remove_bytes(conn, bucket, s3_prefix=settings.s3_prefix)
    assert b"".join(bucket.open(key).chunks)
    conn.execute("UPDATE predictions SET status = 'canceled', completed_at = 'epoch' WHERE id = %s", (second["id"],))
    from datetime import timedelta

    assert expire_predictions(conn, older_than=timedelta(days=1)) == 1
    assert bury_objects(conn) == 0, "a request that is being answered may be about to refer to it"
    conn.execute("UPDATE objects SET sent_at = clock_timestamp() - interval '1 hour'")
    assert bury_objects(conn) == 1
    assert remove_bytes(conn, bucket, s3_prefix=settings.s3_prefix) == 1
    assert [found.key for page in bucket.pages(inputs_folder(settings.s3_prefix)) for found in page] == []


def test_a_picture_whose_removal_had_begun_is_stored_again(
    client: FlaskClient, conn: Connection, bucket: Bucket, renderer: Renderer, settings: ApiSettings
) -> None:
    first = submit(client, input={"prompt": "a", "image": data_url(RED)})
    assert delete_prediction(conn, renderer, first["id"])
    again = submit(client, input={"prompt": "a", "image": data_url(RED)})
    assert remove_bytes(conn, bucket, s3_prefix=settings.s3_prefix) == 0
    assert stored_picture(bucket, settings, parameters_of(conn, again)["image"]).size == (64, 64)


def test_a_tombstone_of_what_has_a_row_again_goes_without_its_bytes(
    client: FlaskClient, conn: Connection, bucket: Bucket, settings: ApiSettings
) -> None:
    made = submit(client, input={"prompt": "a", "image": data_url(RED)})
    key = input_key(settings.s3_prefix, parameters_of(conn, made)["image"])
    conn.execute("INSERT INTO object_tombstones (key) VALUES (%s)", (key,))
    assert remove_bytes(conn, bucket, s3_prefix=settings.s3_prefix) == 0
    assert count(conn, "object_tombstones") == 0
    assert b"".join(bucket.open(key).chunks)


def test_the_same_request_under_its_idempotency_key_is_not_fetched_again(
    client: FlaskClient, receiver: Receiver
) -> None:
    receiver.answer = lambda _: Answer(200, {}, RED)
    given = {"input": {"prompt": "a", "image": receiver.url}, "headers": {"Idempotency-Key": "once"}}
    first = submit(client, **given)
    receiver.answer = lambda _: Answer(404)
    assert submit(client, **given)["id"] == first["id"]
    assert len(receiver.requests) == 1


def test_another_picture_is_another_result(client: FlaskClient, conn: Connection) -> None:
    keys = set()
    for colour in ("red", "green"):
        submit(client, input={"prompt": "a", "seed": 1, "image": data_url(file_of(picture(64, 64, colour)))})
    for row in conn.execute("SELECT cache_key FROM predictions"):
        keys.add(row["cache_key"])
    assert len(keys) == 2


def test_a_drawn_image_is_the_start_of_the_next_by_its_own_url(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket, settings: ApiSettings
) -> None:
    from storage.predictions.finish import StoredImage, Succeeded, finish
    from tests.support.making import claim_one

    submit(client, input={"prompt": "a"})
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    key = f"{settings.s3_prefix}/predictions/{claimed.prediction_id}/1-{claimed.claim_id}/0.png"
    bucket.put(key, RED, "image/png")
    image = StoredImage(key, hashlib.sha256(RED).hexdigest(), len(RED), "image/png", 64, 64, 7)
    finish(conn, renderer, claimed.prediction_id, Succeeded([image]), claim_id=claimed.claim_id)
    [url] = client.get(f"/v1/predictions/{claimed.prediction_id}").get_json()["output"]
    made = submit(client, input={"prompt": "b", "image": url})
    assert stored_picture(bucket, settings, parameters_of(conn, made)["image"]).size == (64, 64)
    foreign = url.replace(claimed.prediction_id, made["id"])
    assert "no such file" in problem(post(client, input={"prompt": "b", "image": foreign}), 422)["detail"]


def test_loras_are_named_as_the_catalog_does(client: FlaskClient, conn: Connection) -> None:
    def loras(**given: Any) -> list[dict[str, Any]]:
        return list(parameters_of(conn, submit(client, input={"prompt": "a"} | given)).get("loras", []))

    assert loras(loras=["pastel", {"name": "outlined", "scale": 0.5}]) == [
        {"name": "pastel", "scale": 0.8},
        {"name": "outlined", "scale": 0.5},
    ]
    assert loras(lora_weights="outlined", lora_scale=0.0) == [{"name": "outlined", "scale": 0.0}]
    unknown = problem(post(client, input={"prompt": "a", "loras": ["no"]}), 422)
    assert "it has outlined, pastel" in unknown["detail"]
    url = "https://example.com/a.safetensors"
    assert "LORA_ALLOW" in problem(post(client, input={"prompt": "a", "lora_weights": url}), 422)["detail"]
    twice = {"loras": ["pastel"], "lora_weights": "pastel"}
    assert "twice" in problem(post(client, input={"prompt": "a"} | twice), 422)["detail"]


def test_loras_by_url_need_an_allowed_host(api_settings: ApiSettings, conn: Connection) -> None:
    with serving(api_settings.model_copy(update={"lora_allow": "Example.com"})) as app:
        client = app.test_client()
        url = "https://example.com/a.safetensors"
        made = submit(client, input={"prompt": "a", "lora_weights": url})
        assert parameters_of(conn, made)["loras"] == [{"name": url, "scale": 1.0}]
        for refused, words in (
            ("https://other.example/a.safetensors", "LORA_ALLOW=other.example"),
            ("http://example.com/a.safetensors", "https://"),
            ("https://example.com/a.ckpt", ".safetensors"),
        ):
            answer = post(client, input={"prompt": "a", "lora_weights": refused})
            assert words in problem(answer, 422)["detail"]


def test_the_schema_shows_what_each_model_takes(app: Flask) -> None:
    client = app.test_client()

    def inputs(name: str) -> dict[str, Any]:
        model = client.get(f"/v1/models/darkroom/{name}").get_json()
        return dict(model["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]["properties"])

    able = inputs("blank")
    assert (able["image"]["type"], able["image"]["format"], able["mask"]["format"]) == ("string", "uri", "uri")
    assert "maxLength" not in able["image"] | able["mask"]  # a data: URL may be long
    assert (able["strength"]["default"], able["strength"]["maximum"]) == (0.6, 1)
    assert "outlined, pastel" in able["lora_weights"]["description"]
    assert [lora["name"] for lora in able["loras"]["x-loras"]] == ["outlined", "pastel"]
    assert set(able["loras"]["x-loras"][0]) == {"name", "scale", "description"}
    assert {"image", "mask", "strength", "loras", "lora_weights"} & set(inputs("text-only")) == set()
    assert client.get("/openapi.json").status_code == 200
