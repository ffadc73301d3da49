"""Requests with several images: what their models take, in the shapes of Replicate, fal and OpenAI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from storage.postgres.database import Connection
from storage.predictions.object_keys import input_key
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket
from tests.integration.test_openai_edits import drawing, part
from tests.pictures import CATALOG, data_url, file_of, picture, stored_picture
from tests.support.api_app import post, problem, submit
from tests.support.making import count

MORE = """
[models."darkroom/several"]
engine = "blank"
version = "3"
takes = ["image"]
defaults = { width = 64, height = 64, num_inference_steps = 4 }
limits = { multiple_of = 16, max_side = 512, max_pixels = 65536, max_input_images = 3 }

[models."darkroom/editor"]
engine = "blank"
version = "4"
takes = ["image"]
defaults = { width = 64, height = 64, num_inference_steps = 4 }
limits = { multiple_of = 16, max_side = 512, max_pixels = 65536, min_input_images = 1 }
"""
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
IMAGES = {name: file_of(picture(96, 64, name)) for name in COLOURS}
RED, BLUE, WHITE = (data_url(IMAGES[name]) for name in COLOURS)
SEVERAL = "darkroom/several"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(CATALOG + MORE)
    return path


def parameters_of(conn: Connection) -> dict[str, Any]:
    row = conn.execute("SELECT parameters FROM predictions ORDER BY created_at DESC LIMIT 1").fetchone()
    assert row is not None
    return dict(row["parameters"])


@pytest.mark.parametrize(
    "given",
    [
        {"images": [RED, BLUE, WHITE]},
        {"image": [RED, BLUE, WHITE]},  # as in Replicate's qwen-image-edit-plus
        {"input_images": [RED, BLUE, WHITE], "aspect_ratio": "match_input_image"},  # as in its flux-2
        {"image_urls": [RED, BLUE, WHITE]},  # as in fal's
    ],
    ids=lambda given: next(iter(given)),
)
def test_all_images_are_stored_in_their_order(
    client: FlaskClient, conn: Connection, bucket: Bucket, settings: ApiSettings, given: dict[str, Any]
) -> None:
    made = submit(client, model=SEVERAL, input={"prompt": "both of them"} | given)
    drawn = parameters_of(conn)
    stored = [
        stored_picture(bucket, settings, sha256).getpixel((5, 5)) for sha256 in (drawn["image"], *drawn["more_images"])
    ]
    assert stored == list(COLOURS.values())
    assert (drawn["width"], drawn["height"]) == (96, 64)  # of the first
    assert "strength" not in drawn
    described = made["input"][next(iter(given))]
    assert len(described) == 3
    assert all(each.startswith("data:image/png;base64,…") for each in described)
    rows = conn.execute("SELECT name, object_key FROM input_images ORDER BY name").fetchall()
    assert [row["name"] for row in rows] == ["image", "image_2", "image_3"]
    assert rows[1]["object_key"] == input_key(settings.s3_prefix, drawn["more_images"][0])


def test_one_image_and_none_are_requests_like_others(client: FlaskClient, conn: Connection) -> None:
    for given in ({"image": RED}, {"images": [RED]}, {"input_images": [RED], "strength": 0.3}):
        submit(client, model=SEVERAL, input={"prompt": "a"} | given)
        assert parameters_of(conn)["image"]
        assert "more_images" not in parameters_of(conn)
    logs = conn.execute("SELECT logs FROM predictions ORDER BY created_at DESC LIMIT 1").fetchone()
    assert logs is not None
    assert "strength has no effect: this model looks at its images" in logs["logs"]
    submit(client, model=SEVERAL, input={"prompt": "a", "input_images": [], "aspect_ratio": "match_input_image"})
    assert "image" not in parameters_of(conn)
    submit(client, model="darkroom/blank", input={"prompt": "a", "image": [RED]})
    assert parameters_of(conn)["strength"] == 0.6


@pytest.mark.parametrize(
    ("model", "given", "field", "words"),
    [
        (SEVERAL, {"images": [RED] * 4}, "input.images", "4 images were sent; darkroom/several takes at most 3 images"),
        (
            "darkroom/blank",
            {"image": [RED, BLUE]},
            "input.image",
            "takes one image; these models take more: darkroom/s",
        ),
        ("darkroom/blank", {"images": [RED] * 4}, "input.images", "darkroom/blank takes one image"),
        (SEVERAL, {"images": [RED] * 17}, "input.images", "at most 16 items"),
        (SEVERAL, {"images": [RED, "data:image/png;base64,@@"]}, "input.images.1", "not base64"),
        (SEVERAL, {"images": [RED, data_url(b"GIF89a" + b"\0" * 40)]}, "input.images.1", "GIF"),
        (SEVERAL, {"images": [RED, 7]}, "input.images.1", "string"),
        (SEVERAL, {"image": [RED, 7]}, "input.image.1", "string"),
        (SEVERAL, {"image": 7}, "input.image", "string"),
        (SEVERAL, {"image": "\0"}, "input.image", "NUL"),
        (SEVERAL, {"images": [""]}, "input.images.0", "must be an https: URL"),
        (SEVERAL, {"image": RED, "images": [BLUE]}, "input.images", "is another name of image"),
        ("darkroom/text-only", {"images": [RED]}, "input.images.0", "takes no image"),
        ("darkroom/editor", {}, "input.image", "is required: darkroom/editor only edits pictures"),
    ],
)
def test_what_a_model_does_not_take_is_422_with_the_field_and_the_number(
    client: FlaskClient, conn: Connection, model: str, given: dict[str, Any], field: str, words: str
) -> None:
    refused = problem(post(client, model=model, input={"prompt": "a"} | given), 422)
    [invalid] = refused["invalid_fields"]
    assert invalid["field"] in (field, f"{field}.0")
    assert words in invalid["description"]
    assert count(conn, "predictions") == 0


def test_the_same_image_may_be_sent_twice(client: FlaskClient, conn: Connection) -> None:
    submit(client, model=SEVERAL, input={"prompt": "a", "images": [RED, BLUE, RED]})
    drawn = parameters_of(conn)
    assert drawn["more_images"][1] == drawn["image"] != drawn["more_images"][0]
    submit(client, model="darkroom/blank", input={"prompt": "a", "image": RED, "mask": RED})
    assert parameters_of(conn)["mask"] not in ("", drawn["image"])


def test_openais_edits_take_several_images_of_a_form(
    client: FlaskClient, conn: Connection, settings: ApiSettings, renderer: Renderer, bucket: Bucket
) -> None:
    images = [part(IMAGES["blue"], "a.png"), part(IMAGES["red"], "b.png")]
    with drawing(settings, renderer, bucket, SEVERAL):
        answer = client.post("/v1/images/edits", data={"image[]": images, "prompt": "both", "model": SEVERAL})
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["usage"]["input_tokens_details"]["image_tokens"] == 2 * 6 * 4
    drawn = parameters_of(conn)
    stored = [stored_picture(bucket, settings, sha256) for sha256 in (drawn["image"], *drawn["more_images"])]
    assert [image.getpixel((5, 5)) for image in stored] == [COLOURS["blue"], COLOURS["red"]]
    too_many = {"image[]": [part() for _ in range(4)], "prompt": "all", "model": SEVERAL}
    answer = client.post("/v1/images/edits", data=too_many)
    assert answer.status_code == 400
    assert "takes at most 3 images" in answer.get_json()["error"]["message"]


def test_openais_edits_take_images_with_numbers_in_their_order(
    client: FlaskClient, conn: Connection, settings: ApiSettings, renderer: Renderer, bucket: Bucket
) -> None:
    form = {"image[10]": part(IMAGES["red"]), "image[2]": part(IMAGES["blue"]), "prompt": "both", "model": SEVERAL}
    with drawing(settings, renderer, bucket, SEVERAL):
        answer = client.post("/v1/images/edits", data=form)
    assert answer.status_code == 200, answer.text
    drawn = parameters_of(conn)
    stored = [stored_picture(bucket, settings, sha256) for sha256 in (drawn["image"], *drawn["more_images"])]
    assert [image.getpixel((5, 5)) for image in stored] == [COLOURS["blue"], COLOURS["red"]]


def test_other_images_are_not_answered_from_the_cache(client: FlaskClient, conn: Connection) -> None:
    for given in ([RED, BLUE], [RED, WHITE], [RED]):
        submit(client, model=SEVERAL, input={"prompt": "a", "seed": 1, "images": given})
    row = conn.execute("SELECT count(DISTINCT cache_key) AS keys FROM predictions").fetchone()
    assert row is not None
    assert row["keys"] == 3


def test_the_schema_says_how_many_images_a_model_takes(client: FlaskClient) -> None:
    def inputs(model: str) -> dict[str, Any]:
        schema: dict[str, Any] = client.get(f"/v1/models/{model}").get_json()["latest_version"]["openapi_schema"]
        return dict(schema["components"]["schemas"]["Input"])

    several = inputs(SEVERAL)["properties"]
    assert several["images"]["type"] == "array"
    assert several["images"]["maxItems"] == 3
    assert several["images"]["items"]["format"] == "uri"
    assert "match_input_image" in several["aspect_ratio"]["enum"]
    assert not {"image", "strength", "input_images", "image_urls"} & several.keys()
    one = inputs("darkroom/blank")["properties"]
    assert one["image"]["type"] == "string"
    assert "images" not in one
    assert inputs("darkroom/editor")["required"] == ["prompt", "image"]
    assert "match_input_image" not in inputs("darkroom/text-only")["properties"]["aspect_ratio"]["enum"]
