"""Lists with filters and searches, over the API, on the real database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from courier.search_index import index_once
from storage.access.tokens import create_token
from storage.postgres.database import Connection
from storage.predictions.finish import Failed, finish
from storage.predictions.lists import search_windows
from storage.predictions.render import Renderer
from storage.predictions.retention.expiry import remove_data
from storage.predictions.retention.keep import set_keep
from tests.support.api_app import MODEL, problem, serving, submit
from tests.support.making import count, draw_next

STATES = ["starting", "processing", "succeeded", "failed", "canceled"]


def ids(client: FlaskClient, headers: dict[str, str] | None = None, **query: Any) -> list[str]:
    """What a list finds, in its order, through all its pages."""
    found: list[str] = []
    path: str | None = "/v1/predictions"
    asked: dict[str, Any] | None = query
    while path is not None:
        answer = client.get(path, query_string=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        page = answer.get_json()
        found += [each["id"] for each in page["results"]]
        path = page["next"] and page["next"][page["next"].index("/v1/") :]
        asked = None
    return found


@pytest.fixture(params=["waiting", "ended", "not yet indexed"])
def stage(request: pytest.FixtureRequest) -> str:
    """Where predictions are found: in the table itself, by their terms, or in a window that is not filled."""
    return str(request.param)


def bring_to(stage: str, conn: Connection, renderer: Renderer, predictions: int) -> None:
    if stage == "waiting":
        return
    for _ in range(predictions):
        draw_next(conn, renderer)
    assert count(conn, "prediction_terms") == predictions
    if stage == "not yet indexed":  # as those that ended before migration 0016
        conn.execute("DELETE FROM prediction_terms")
        conn.execute("UPDATE search_windows SET filled = false")


PROMPTS = (
    "A red circle on a blue table, f/1.8, 4k",
    "blue TABLE; Ärger im Café",
    "一只红色的猫在桌子上",
    "赤い猫、ｶﾀｶﾅ and a reddish dog 🐱🐶",
    "don't draw_this: state-of-the-art",
)
FOUND = [
    ("red", [0, 3]),  # also the beginning of the last word
    ("red circle", [0]),
    ("circle red", [0]),
    ("RED Circle!", [0]),
    ("red table", [0]),
    ("table", [0, 1]),
    ("blue table", [0, 1]),
    ("tab", [0, 1]),
    ("tab blue", []),  # only the last word may be a beginning
    ("re", []),  # with at least three letters
    ("4k", [0]),
    ("1.8", [0]),
    ("absent", []),
    ("red absent", []),
    ("ärger", [1]),
    ("ÄRGER CAFÉ", [1]),
    ("A\u0308rger", [1]),  # the same letter in two code points
    ("猫", [2, 3]),
    ("红色", [2]),
    ("的猫在", [2]),
    ("桌子上", [2]),
    ("上", [2]),
    ("桌上", []),
    ("猫 dog", [3]),
    ("カタカナ", [3]),
    ("🐱", [3]),
    ("don't", [4]),
    ("state of the art", [4]),
    ("draw this", [4]),
]


def test_words_are_found_in_every_script(client: FlaskClient, conn: Connection, renderer: Renderer, stage: str) -> None:
    made = [submit(client, input={"prompt": prompt})["id"] for prompt in PROMPTS]
    bring_to(stage, conn, renderer, len(made))
    for words, places in FOUND:
        assert ids(client, q=words) == [made[place] for place in reversed(places)], words


def test_one_that_ends_is_found_throughout(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    made = [submit(client, input={"prompt": f"cat {number}"}, metadata={"n": number})["id"] for number in range(5)]
    for _ in made:
        draw_next(conn, renderer)
        assert ids(client, q="cat") == made[::-1]
        assert ids(client, q="cat", limit=2) == made[::-1]


@pytest.mark.parametrize("metadata", [{"project": "x"}, {"project": "x", "n": 1}, {"n": 1.0}, {"is_test": None}])
def test_metadata_is_found_by_any_of_its_pairs(
    client: FlaskClient, conn: Connection, renderer: Renderer, stage: str, metadata: dict[str, Any]
) -> None:
    given = {"project": "x", "n": 1, "is_test": None, "share": 0.5, "name": "it's \\ 猫"}
    made = submit(client, metadata=given)
    assert made["metadata"] == given
    submit(client, metadata={"project": "y", "n": "1", "is_test": False})
    submit(client)
    bring_to(stage, conn, renderer, 3)
    assert ids(client, metadata=json.dumps(metadata)) == [made["id"]]
    assert ids(client, metadata=json.dumps(metadata | {"project": "z"})) == []
    assert len(ids(client, metadata="{}")) == 3


def test_each_filter_narrows_the_list(client: FlaskClient, conn: Connection, renderer: Renderer, stage: str) -> None:
    plain = submit(client)["id"]
    other = submit(client, model="darkroom/other")["id"]
    kept = submit(client, keep=True)["id"]
    newest = submit(client, input={"prompt": "a red circle"}, model="darkroom/other")["id"]
    finish(conn, renderer, newest, Failed("no reason"))
    bring_to(stage, conn, renderer, 2) if stage == "waiting" else _end_all(conn, renderer, stage)
    assert ids(client, model=MODEL) == ids(client, model="dall-e-3") == [kept, plain]
    assert ids(client, model="darkroom/other") == [newest, other]
    assert ids(client, model="darkroom/gone") == []
    assert ids(client, keep="true") == [kept]
    assert ids(client, keep="false") == [newest, other, plain]
    assert ids(client, q="circle", keep="false", model="darkroom/other", status="failed") == [newest]
    assert ids(client, status="failed") == [newest]
    assert ids(client, status="canceled") == []
    assert ids(client, status="failed,succeeded,starting") == [newest, kept, other, plain]
    assert ids(client, status=",".join(STATES), source="api") == [newest, kept, other, plain]
    assert ids(client, q="circle", source="api") == [newest, kept, other, plain]
    assert ids(client, q="circle", source="web") == []
    moment = client.get(f"/v1/predictions/{kept}").get_json()["created_at"]
    assert ids(client, q="red", created_before=moment) == [other, plain]
    assert ids(client, q="red", created_after=moment) == [newest, kept]


def _end_all(conn: Connection, renderer: Renderer, stage: str) -> None:
    for row in conn.execute("SELECT id FROM predictions WHERE completed_at IS NULL").fetchall():
        finish(conn, renderer, row["id"], Failed("no reason"))
        conn.execute("UPDATE predictions SET status = 'succeeded' WHERE id = %s", (row["id"],))
    if stage == "not yet indexed":
        conn.execute("DELETE FROM prediction_terms")
        conn.execute("UPDATE search_windows SET filled = false")


def test_pages_lead_through_windows_in_both_directions(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    made = _in_windows(client, conn, renderer, windows=4, in_each=3)
    assert ids(client, q="circle", limit=2) == made[::-1]
    assert ids(client, status="succeeded", limit=5) == made[::-1]
    page = client.get("/v1/predictions", query_string={"q": "circle", "limit": 5, "keep": "false"}).get_json()
    assert page["previous"] is None
    seen = [page]
    while page["next"]:
        page = client.get(page["next"]).get_json()
        seen.append(page)
    assert [[each["id"] for each in page["results"]] for page in seen] == [
        made[7:][::-1],
        made[2:7][::-1],
        made[:2][::-1],
    ]
    page = client.get(page["previous"]).get_json()
    assert page["results"] == seen[1]["results"]
    page = client.get(page["previous"]).get_json()
    assert page["results"] == seen[0]["results"]


def _in_windows(
    client: FlaskClient, conn: Connection, renderer: Renderer, *, windows: int, in_each: int
) -> Sequence[str]:
    """Predictions that have ended, oldest first, some of them in windows that are not filled."""
    made = []
    for number in range(windows):
        if number:
            conn.execute("INSERT INTO search_windows (starts_at) VALUES (clock_timestamp())")
        for _ in range(in_each):
            made.append(submit(client)["id"])
            draw_next(conn, renderer)
    conn.execute("UPDATE search_windows SET filled = false WHERE number % 2 = 0")
    conn.execute(
        """
        DELETE FROM prediction_terms USING search_windows
        WHERE NOT filled AND terms @@ (quote_literal(number || 's:succeeded'))::tsquery
        """
    )
    assert count(conn, "prediction_terms") < len(made)
    return made


def test_a_page_of_what_waits_and_what_has_ended_is_in_order(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    made = [submit(client, input={"prompt": "a cat", "priority": number % 2})["id"] for number in range(6)]
    for _ in range(3):  # those of the higher priority
        draw_next(conn, renderer)
    assert ids(client, q="cat", limit=2) == made[::-1]
    assert ids(client, q="cat", status="succeeded") == made[5::-2]
    assert ids(client, q="cat", status="starting,canceled") == made[4::-2]


def test_what_is_deleted_or_expired_has_no_words_left(
    client: FlaskClient, conn: Connection, renderer: Renderer, stage: str
) -> None:
    deleted = submit(client, input={"prompt": "a secret wish"}, metadata={"project": "secret"})["id"]
    expired = submit(client, input={"prompt": "a secret plan"}, metadata={"project": "secret"})["id"]
    bring_to(stage, conn, renderer, 2)
    assert ids(client, q="secret") == [expired, deleted]
    assert client.delete(f"/v1/predictions/{deleted}").status_code == 204
    if stage != "waiting":
        remove_data(conn, [expired])
        assert ids(client, q="secret") == []
        assert ids(client, metadata='{"project": "secret"}') == []
        assert ids(client, status="succeeded", model=MODEL) == [expired]
        assert count(conn, "prediction_terms", "terms::text ~ 'secret|wish|plan|d:'") == 0
        assert count(conn, "predictions", "metadata::text LIKE '%secret%'") == 0
    else:
        assert ids(client, q="secret") == [expired]


def test_the_terms_follow_what_changes_later(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    made = submit(client)["id"]
    draw_next(conn, renderer)
    set_keep(conn, made, keep=True)
    assert ids(client, keep="true") == [made]
    conn.execute("UPDATE predictions SET token_id = 17 WHERE id = %s", (made,))
    assert count(conn, "prediction_terms", "terms @@ $$'1t:17'$$") == 1


def test_a_token_finds_only_its_own(
    api_settings: ApiSettings, conn: Connection, renderer: Renderer, stage: str
) -> None:
    mine, theirs = ({"Authorization": f"Bearer {create_token(conn, name)}"} for name in ("mine", "theirs"))
    with serving(api_settings) as app:
        client = app.test_client()
        own = submit(client, headers=mine, metadata={"a": 1})["id"]
        foreign = submit(client, headers=theirs, metadata={"a": 1})["id"]
        bring_to(stage, conn, renderer, 2)
        for query in ({"q": "circle"}, {"metadata": '{"a": 1}'}, {"model": MODEL}, {"keep": "false"}):
            assert ids(client, mine, **query) == [own], query
            assert ids(client, theirs, **query) == [foreign], query


def test_what_ended_before_the_migration_is_indexed_afterwards(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    made = _in_windows(client, conn, renderer, windows=3, in_each=3)
    deleted = made[4]
    assert client.delete(f"/v1/predictions/{deleted}").status_code == 204
    waiting = submit(client)["id"]
    index_once(conn)
    assert count(conn, "search_windows", "NOT filled") == 0
    assert count(conn, "prediction_terms") == len(made) - 1
    assert ids(client, q="red") == [waiting, *(each for each in made[::-1] if each != deleted)]


def test_a_window_that_is_full_is_followed_by_another(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_windows, "WINDOW", 3)
    for _ in range(2):
        submit(client)
        assert not search_windows.open_window(conn)
    submit(client)
    index_once(conn)
    assert count(conn, "search_windows") == 2
    assert not search_windows.open_window(conn), "the new one is empty"
    assert count(conn, "search_windows", "filled") == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"q": " .,;"}, "q"),
        ({"q": ""}, "q"),
        ({"q": "'\\%_"}, "q"),
        ({"q": "一 二 三 四 五 六 七 八 九"}, "q"),
        ({"q": "a\0b"}, "q"),
        ({"q": "x" * 401}, "q"),
        ({"model": "nothing"}, "model"),
        ({"model": "a/\0"}, "model"),
        ({"status": "aborted"}, "status"),
        ({"status": "succeeded,"}, "status"),
        ({"status": ""}, "status"),
        ({"keep": "yes"}, "keep"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": "[]"}, "metadata"),
        ({"metadata": '{"a": {}}'}, "metadata.a"),
        ({"metadata": "[" * 3000}, "metadata"),
        ({"metadata": '{"a": "\\u0000"}'}, "metadata.a"),
        ({"metadata": '{"a": NaN}'}, "metadata.a"),
        ({"prompt": "cat"}, "prompt"),
    ],
)
def test_a_filter_that_can_not_be_read_is_refused(
    shared_client: FlaskClient, query: dict[str, str], field: str
) -> None:
    refused = problem(shared_client.get("/v1/predictions", query_string=query), 422)
    assert refused["invalid_fields"][0]["field"].startswith(field)
