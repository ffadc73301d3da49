"""Replicate's files API: whose a file is, how long it lives, and what becomes of its bytes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.settings import ApiSettings
from courier.retention import retain_once
from storage.access.tokens import create_token
from storage.postgres.database import Connection
from storage.predictions.object_keys import files_folder
from storage.s3.bucket import Bucket
from tests.pictures import file_of, picture
from tests.support.api_app import post, problem
from tests.support.making import count

RED = file_of(picture())


@pytest.fixture
def api_settings(settings: ApiSettings, pictures_catalog: Path) -> ApiSettings:
    return settings.model_copy(update={"models": pictures_catalog, "max_input_image_bytes": 50_000})


def upload(client: FlaskClient, data: bytes = RED, name: str = "a.png", **more: Any) -> TestResponse:
    headers = more.pop("headers", None)
    form = {"content": (io.BytesIO(data), name, "image/png")} | more
    return client.post("/v1/files", data=form, headers=headers)


def uploaded(client: FlaskClient, **more: Any) -> dict[str, Any]:
    answer = upload(client, **more)
    assert answer.status_code == 201, answer.text
    return dict(answer.get_json())


def bearer(conn: Connection, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {create_token(conn, name)}"}


def keys(bucket: Bucket, settings: ApiSettings) -> list[str]:
    return [found.key for page in bucket.pages(files_folder(settings.s3_prefix)) for found in page]


def test_a_file_is_told_listed_downloaded_and_drawn_from(client: FlaskClient) -> None:
    made = uploaded(client, metadata=json.dumps({"project": "x"}), filename="ü b.png")
    assert (made["name"], made["content_type"], made["size"]) == ("ü b.png", "image/png", len(RED))
    assert made["metadata"] == {"project": "x"}
    assert client.get(f"/v1/files/{made['id']}").get_json() == made
    assert client.get("/v1/files").get_json()["results"] == [made]
    link = made["urls"]["download"].partition("8000")[2]
    download = client.get(link)
    assert download.data == RED
    assert download.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%BC%20b.png"
    assert download.headers["Content-Security-Policy"].startswith("sandbox")
    forged = problem(client.get(link[:-1] + ("0" if link[-1] != "0" else "1")), 403)
    assert "GET the file for a new one" in forged["detail"]
    for url in made["urls"].values():
        assert post(client, input={"prompt": "a", "image": url}).status_code == 201


def test_a_file_is_its_tokens_own(client: FlaskClient, conn: Connection) -> None:
    mine, theirs = bearer(conn, "mine"), bearer(conn, "theirs")
    made = uploaded(client, headers=mine)
    path = f"/v1/files/{made['id']}"
    for answer in (client.get(path, headers=theirs), client.delete(path, headers=theirs)):
        problem(answer, 404)
    assert client.get("/v1/files", headers=theirs).get_json()["results"] == []
    refused = post(client, headers=theirs, input={"prompt": "a", "image": made["urls"]["get"]})
    assert "no such file" in problem(refused, 422)["detail"]
    assert post(client, headers=mine, input={"prompt": "a", "image": made["urls"]["get"]}).status_code == 201
    problem(upload(client), 401)


def test_a_deleted_file_loses_its_bytes_and_a_prediction_from_it_keeps_its_picture(
    client: FlaskClient, conn: Connection, bucket: Bucket, settings: ApiSettings
) -> None:
    made = uploaded(client)
    assert post(client, input={"prompt": "a", "image": made["urls"]["get"]}).status_code == 201
    assert client.delete(f"/v1/files/{made['id']}").status_code == 204
    problem(client.get(f"/v1/files/{made['id']}"), 404)
    problem(client.delete(f"/v1/files/{made['id']}"), 404)
    retain_once(conn, bucket, settings, sweep=True)
    assert keys(bucket, settings) == []
    assert count(conn, "objects") == 1, "the prediction's own"


def test_a_file_expires_and_an_upload_that_ended_midway_is_swept(
    client: FlaskClient, conn: Connection, bucket: Bucket, settings: ApiSettings
) -> None:
    made = uploaded(client)
    conn.execute("UPDATE files SET expires_at = clock_timestamp() - interval '1 s'")
    problem(client.get(f"/v1/files/{made['id']}"), 404)
    assert client.get("/v1/files").get_json()["results"] == []
    conn.execute(
        "INSERT INTO objects (key, sha256, size_bytes, content_type, sent_at)"
        " VALUES (%s, '', 1, '', clock_timestamp() - interval '1 hour')",
        (f"{files_folder(settings.s3_prefix)}midway",),
    )
    bucket.put(f"{files_folder(settings.s3_prefix)}midway", b"x", "image/png")
    retain_once(conn, bucket, settings, sweep=True)
    assert keys(bucket, settings) == []
    assert (count(conn, "files"), count(conn, "objects"), count(conn, "object_tombstones")) == (0, 0, 0)


def test_pages_lead_through_all_files(client: FlaskClient, conn: Connection) -> None:
    made = uploaded(client)
    conn.execute(
        "INSERT INTO files (id, name, object_key, md5, created_at) SELECT 'f' || n, 'x', object_key, md5,"
        " created_at - n * interval '1 s' FROM files, generate_series(1, 104) AS n"
    )
    first = client.get("/v1/files").get_json()
    second = client.get(first["next"].partition("8000")[2]).get_json()
    assert (len(first["results"]), len(second["results"]), second["next"]) == (100, 5, None)
    assert first["results"][0]["id"] == made["id"]
    back = client.get(second["previous"].partition("8000")[2]).get_json()
    assert back["results"] == first["results"]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"x": "y"}, "content"),
        ({"content": "no file"}, "content"),
        ({"content": (io.BytesIO(b""), "a.png")}, "content"),
        ({"content": (io.BytesIO(RED), "a.png"), "metadata": "[1]"}, "metadata"),
        ({"content": (io.BytesIO(RED), "a.png"), "metadata": '{"a": NaN}'}, "metadata"),
        ({"content": (io.BytesIO(RED), "a.png"), "metadata": '{"a": 1e400}'}, "metadata"),
        ({"content": (io.BytesIO(RED), "a.png"), "metadata": '{"a": [{"b": -1e999}]}'}, "metadata"),
        ({"content": (io.BytesIO(RED), "a.png"), "metadata": '{"a": "' + "x" * 3000 + '"}'}, "metadata"),
        ({"content": (io.BytesIO(RED), "a.png"), "type": "no type"}, "type"),
        ({"content": (io.BytesIO(RED), "a.png"), "filename": "a\x00b"}, "filename"),
        ({"content": (io.BytesIO(RED), "a.png"), "filename": "x" * 300}, "filename"),
    ],
)
def test_a_bad_upload_is_422_and_names_the_field(
    client: FlaskClient, conn: Connection, form: dict[str, Any], field: str
) -> None:
    form = {name: (io.BytesIO(value[0].getvalue()), value[1]) if isinstance(value, tuple) else value
            for name, value in form.items()}  # fmt: skip
    answer = client.post("/v1/files", data=form, content_type="multipart/form-data")
    assert problem(answer, 422)["invalid_fields"][0]["field"] == field
    assert count(conn, "files") == 0


def test_what_is_no_form_is_415_and_too_much_is_413(client: FlaskClient, api_settings: ApiSettings) -> None:
    problem(client.post("/v1/files", json={}), 415)
    problem(upload(client, data=b"\0" * (api_settings.max_upload_bytes + 1)), 413)
    problem(upload(client, data=b"\0" * (api_settings.max_input_image_bytes + 1)), 422)
    many = client.post("/v1/files", data={f"field-{n}": "x" for n in range(100)}, content_type="multipart/form-data")
    assert "more than 64 parts" in problem(many, 413)["detail"]
    broken = client.post("/v1/files", data=b"--x\r\n", content_type="multipart/form-data; boundary=x")
    problem(broken, 422)


def test_a_name_with_a_path_is_only_its_last_part(client: FlaskClient) -> None:
    assert uploaded(client, filename="../../etc/passwd")["name"] == "passwd"
    assert uploaded(client, filename="C:\\pictures\\a.png")["name"] == "a.png"
