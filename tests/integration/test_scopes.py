"""Scopes: what a token may do, and what answers the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from api import auth
from api.live.access_watch import Access
from api.settings import ApiSettings
from storage.access.scopes import DEFAULT, Scope
from storage.access.sealing import IN_THE_CLEAR
from storage.access.signing_keys import active_webhook_secrets
from storage.access.token_format import digest_of
from storage.access.tokens import create_token, find_token, id_of_token, read_in_use, rotate_token, set_scopes
from storage.postgres.database import Connection, connect
from tests.conftest import RunningServices, migrated_database
from tests.integration.deliveries_of import read, write
from tests.support.api_app import CATALOG, post, problem, serving, submit
from tests.support.making import submit_one

# The scope of every route, by method and path: a new one has to be added here.
NEEDED = {
    "get /account": "read",
    "get /deployments": "read",
    "post /deployments": "admin",
    "get /deployments/<owner>/<deployment>": "read",
    "patch /deployments/<owner>/<deployment>": "admin",
    "delete /deployments/<owner>/<deployment>": "admin",
    "post /deployments/<owner>/<deployment>/predictions": "draw",
    "get /events": "read",
    "get /events/ws": "read",
    "get /files": "read",
    "post /files": "draw",
    "get /files/<file_id>": "read",
    "delete /files/<file_id>": "draw",
    "get /hardware": "read",
    "post /images/edits": "draw",
    "post /images/generations": "draw",
    "post /images/variations": "draw",
    "get /metrics": "metrics",
    "get /models": "read",
    "get /models/<alias>": "read",
    "get /models/<owner>/<name>": "read",
    "get /models/<owner>/<name>/versions": "read",
    "get /models/<owner>/<name>/versions/<version>": "read",
    "post /models/<owner>/<name>/predictions": "draw",
    "post /models/<owner>/<name>/warm": "draw",
    "get /predictions": "read",
    "post /predictions": "draw",
    "get /predictions/<prediction_id>": "read",
    "delete /predictions/<prediction_id>": "draw",
    "post /predictions/<prediction_id>/cancel": "draw",
    "post /predictions/<prediction_id>/keep": "draw",
    "get /predictions/<prediction_id>/events": "read",
    "get /predictions/<prediction_id>/ws": "read",
    "get /status": "admin",
    "get /usage": "read",
    "get /webhook_deliveries": "read",
    "get /webhook_deliveries/<delivery_id>": "read",
    "post /webhook_deliveries/<delivery_id>/replay": "draw",
    "get /webhooks/default/secret": "read",
    "get /webhooks/deployment/secret": "admin",
}


@pytest.fixture(autouse=True)
def _forget_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBER_S", 0.0)


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    with serving(api_settings.model_copy(update={"auth": "tokens"})) as app:
        yield app


@pytest.fixture(scope="module")
def refusing(
    services: RunningServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Flask, dict[Scope, dict[str, str]]]]:
    """One API for all requests that are refused, and for each scope a token that has all others but admin."""
    catalog = tmp_path_factory.mktemp("refusing") / "models.toml"
    catalog.write_text(CATALOG)
    with migrated_database(services) as database:
        settings = services.settings_for(database, models=catalog, auth="tokens")
        with serving(settings) as app, connect(settings.database_url, application_name="test") as conn:
            lacking = {
                needed: bearer(conn, *(scope for scope in Scope if scope not in (needed, Scope.ADMIN)))
                for needed in Scope
            }
            yield app, lacking


def bearer(conn: Connection, *scopes: str) -> dict[str, str]:
    """The header of a new token with these scopes."""
    return {"Authorization": f"Bearer {create_token(conn, '+'.join(scopes), scopes=[Scope(each) for each in scopes])}"}


def test_every_route_declares_the_scope_that_it_needs(app: Flask) -> None:
    declared = {}
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        is_open, scope = hasattr(view, auth.OPEN), getattr(view, auth.NEEDS, None)
        assert is_open == (scope is None), f"{rule.rule} needs either @needs(…) or @open_to_all"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            if scope is not None:
                declared[f"{method.lower()} {rule.rule.removeprefix('/v1')}"] = scope.value
    assert declared == NEEDED


@pytest.mark.parametrize("path", sorted(NEEDED))
def test_a_request_without_the_scope_is_403_and_names_it(
    refusing: tuple[Flask, dict[Scope, dict[str, str]]], path: str
) -> None:
    method, _, rule = path.partition(" ")
    needed = Scope(NEEDED[path])
    app, lacking = refusing
    url = rule if rule == "/metrics" else f"/v1{rule}"
    answer = app.test_client().open(url, method=method.upper(), headers=lacking[needed], json={})
    assert answer.status_code == 403
    assert f"needs the scope `{needed}`" in answer.text
    assert f'scope="{needed}"' in answer.headers["WWW-Authenticate"]
    if rule.startswith("/images/") or rule == "/models/<alias>":  # OpenAI's shape
        assert answer.get_json()["error"]["code"] == "insufficient_scope"
    else:
        assert problem(answer, 403)["scope"] == needed


def test_each_scope_is_enough_for_what_needs_it_and_admin_for_all(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    draw, read_, metrics = bearer(conn, "draw"), bearer(conn, "read"), bearer(conn, "metrics")
    assert post(client, headers=draw).status_code == 201
    assert client.get("/v1/predictions", headers=read_).get_json()["results"] == []
    assert client.get("/metrics", headers=metrics).status_code == 200
    admin = bearer(conn, "admin")
    assert post(client, headers=admin).status_code == 201
    assert client.get("/metrics", headers=admin).status_code == 200
    assert len(client.get("/v1/predictions", headers=admin).get_json()["results"]) == 1  # its own only


def test_a_view_that_declares_nothing_needs_admin(guarded: Flask, conn: Connection) -> None:
    ordinary, admin = bearer(conn, "draw", "read", "metrics"), bearer(conn, "admin")
    guarded.add_url_rule("/v1/forgotten", view_func=lambda: "secret")
    problem(guarded.test_client().get("/v1/forgotten", headers=ordinary), 403)
    assert guarded.test_client().get("/v1/forgotten", headers=admin).text == "secret"


def test_where_the_api_is_open_everybody_may_do_everything(app: Flask) -> None:
    client = app.test_client()
    submit(client)
    assert client.get("/metrics").status_code == 200


def test_admin_reads_and_replays_the_deliveries_of_all_with_their_details(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    others, admin = bearer(conn, "draw", "read"), bearer(conn, "admin")
    delivery_id = write(
        conn, "http://10.0.0.1/hook", prediction_id=submit_one(conn, token_id=id_of_token(conn, "admin") + 77)["id"]
    )
    conn.execute(
        "UPDATE webhook_deliveries SET is_private = true, status = 'failed', last_error = 'refused', attempts = 3"
        " WHERE id = %s",
        (delivery_id,),
    )
    path = f"/v1/webhook_deliveries/{delivery_id}"
    problem(client.get(path, headers=others), 404)
    problem(client.post(f"{path}/replay", headers=others), 404)
    shown = client.get(path, headers=admin).get_json()
    assert (shown["status"], shown["last_error"], shown["attempts"]) == ("failed", "refused", 3)
    assert client.get("/v1/webhook_deliveries", headers=admin).get_json()["results"] == [shown]
    assert client.post(f"{path}/replay", headers=admin).status_code == 200
    assert read(conn, delivery_id)["status"] == "pending"


def test_admin_reads_the_deployments_secret_and_a_token_its_own(guarded: Flask, conn: Connection) -> None:
    client, admin = guarded.test_client(), bearer(conn, "admin")
    (deployments,) = active_webhook_secrets(conn, IN_THE_CLEAR)
    assert client.get("/v1/webhooks/deployment/secret", headers=admin).get_json() == {"key": deployments}
    assert client.get("/v1/webhooks/default/secret", headers=admin).get_json()["key"] != deployments


def test_narrowing_a_token_counts_at_the_next_request_and_rotating_keeps_its_scopes(
    guarded: Flask, conn: Connection
) -> None:
    client = guarded.test_client()
    token = create_token(conn, "app")
    found = find_token(conn, token)
    assert found is not None
    assert found.scopes == DEFAULT == {Scope.DRAW, Scope.READ}
    assert post(client, headers={"Authorization": f"Bearer {token}"}).status_code == 201
    assert set_scopes(conn, "app", [Scope.READ]) == DEFAULT
    problem(post(client, headers={"Authorization": f"Bearer {token}"}), 403)
    rotated = find_token(conn, rotate_token(conn, "app"))
    assert rotated is not None
    assert rotated.scopes == {Scope.READ}


def test_a_stream_ends_when_its_token_loses_the_scope_that_it_needs_and_no_other(conn: Connection) -> None:
    token = create_token(conn, "app", scopes=list(Scope))
    token_id = id_of_token(conn, "app")
    reading, drawing = (Access(token_id, digest_of(token), scope) for scope in (Scope.READ, Scope.DRAW))
    signed = Access(token_id)

    def lasting() -> list[Access]:
        in_use = read_in_use(conn, [token_id])
        return [access for access in (reading, drawing, signed) if access.lasts(in_use, is_open=False)]

    set_scopes(conn, "app", [Scope.ADMIN])
    assert lasting() == [reading, drawing, signed]
    set_scopes(conn, "app", [Scope.READ])
    assert lasting() == [reading, signed]


def test_a_token_that_the_release_before_makes_may_do_what_it_could(conn: Connection) -> None:
    conn.execute("INSERT INTO tokens (name, digest, shown) VALUES ('old', 'x', 'x')")
    row = conn.execute("SELECT scopes FROM tokens").fetchone()
    assert row is not None
    assert row["scopes"] == ["draw", "read", "metrics"]
