"""Lists of predictions: pages, windows of time, sources, and parameters that no list knows."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from api.parsing.list_request import MAX_LIMIT, PARAMETERS
from storage.postgres.database import Connection
from tests.support.api_app import MODEL, problem, submit
from tests.support.making import submit_one


def test_the_list_is_read_forth_and_back_without_gap_or_repeat(client: FlaskClient, conn: Connection) -> None:
    ids = [submit_one(conn)["id"] for _ in range(2 * MAX_LIMIT + 50)]
    seen: list[str] = []
    pages = []
    url: str | None = "/v1/predictions"
    while url is not None:
        page = client.get(_path(url)).get_json()
        pages.append(page)
        seen += [each["id"] for each in page["results"]]
        url = page["next"]
    assert seen == ids[::-1]
    assert [len(page["results"]) for page in pages] == [MAX_LIMIT, MAX_LIMIT, 50]
    assert pages[0]["previous"] is None
    back = client.get(_path(pages[2]["previous"])).get_json()
    assert back["results"] == pages[1]["results"]
    first = client.get(_path(back["previous"])).get_json()
    assert first["results"] == pages[0]["results"]
    assert first["previous"] is None


def test_the_list_keeps_to_its_window_of_time_also_on_the_next_page(client: FlaskClient, conn: Connection) -> None:
    old = submit_one(conn)
    conn.execute("UPDATE predictions SET created_at = '2020-01-01Z'")
    new = submit_one(conn)
    after = client.get("/v1/predictions?created_after=2021-01-01T00:00:00Z").get_json()
    assert [each["id"] for each in after["results"]] == [new["id"]]
    before = client.get("/v1/predictions?created_before=2021-01-01T00:00:00Z").get_json()
    assert [each["id"] for each in before["results"]] == [old["id"]]
    problem(client.get("/v1/predictions?created_after=yesterday"), 422)
    problem(client.get("/v1/predictions?cursor=x"), 422)


LISTS = [
    ("/v1/predictions", f"it takes {', '.join(PARAMETERS)}"),
    ("/v1/webhook_deliveries", "it takes cursor, prediction_id, status"),
    ("/v1/models", "it takes no parameters"),
    (f"/v1/models/{MODEL}/versions", "it takes no parameters"),
]


@pytest.mark.parametrize(("path", "takes"), LISTS)
def test_a_list_refuses_a_parameter_that_it_does_not_know_and_names_those_it_knows(
    client: FlaskClient, path: str, takes: str
) -> None:
    assert client.get(path).status_code == 200
    for name in ("page", "a%00b", "Cursor"):
        assert problem(client.get(f"{path}?{name}=1"), 422)["detail"].endswith(f"of this list; {takes}")
    if "cursor" in takes:
        assert "2 times" in problem(client.get(f"{path}?cursor=a&cursor=b"), 422)["detail"]


def test_the_list_can_be_narrowed_to_a_source_as_at_replicate(client: FlaskClient) -> None:
    made = submit(client)
    assert [each["id"] for each in client.get("/v1/predictions?source=api").get_json()["results"]] == [made["id"]]
    assert client.get("/v1/predictions?source=web").get_json()["results"] == []
    assert "none of api, web" in problem(client.get("/v1/predictions?source=%00"), 422)["detail"]


def test_a_zone_whose_plus_was_not_escaped_is_read_as_it_was_meant(client: FlaskClient, conn: Connection) -> None:
    made = submit_one(conn)
    conn.execute("UPDATE predictions SET created_at = '2020-01-01T10:00:00Z'")
    for time_, is_listed in (("2020-01-01T11:59:59+02:00", True), ("2020-01-01T12:00:01+02:00", False)):
        listed = client.get(f"/v1/predictions?created_after={time_}").get_json()["results"]
        assert [each["id"] for each in listed] == ([made["id"]] if is_listed else [])


def test_an_empty_list_has_no_pages(client: FlaskClient) -> None:
    assert client.get("/v1/predictions").get_json() == {"next": None, "previous": None, "results": []}


def _path(url: str) -> str:
    return urlsplit(url)._replace(scheme="", netloc="").geturl()
