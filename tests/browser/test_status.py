"""The operator's view at `/status`, in a real Chromium against the whole running service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from storage.access.scopes import Scope
from storage.access.tokens import create_token
from storage.postgres.database import Connection, connect
from storage.predictions.finish import Failed, finish
from storage.predictions.render import open_renderer
from storage.workers.load_failures import record_failure
from storage.workers.registry import WorkerRow, say_alive
from storage.workers.warm import keep_warm
from tests.browser.drawing import findings, opened
from tests.conftest import REPOSITORY, RunningServices
from tests.integration.deliveries_of import read, write
from tests.support.making import submit_one
from tests.support.serving import Service, serving

BLANK = "darkroom/blank"
# What is wider than the window, outside of tables that scroll.
STICKS_OUT = """[...document.querySelectorAll('body *')].filter(each => !each.closest('.scroll, .unseen, dialog')
    && each.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(each => each.outerHTML)"""


@pytest.fixture(scope="module")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(services, tmp_path_factory.mktemp("status"), auth="none") as running:
        yield running


@pytest.fixture
def conn(service: Service) -> Iterator[Connection]:
    with connect(service.settings.database_url, application_name="test") as opened_:
        yield opened_
        opened_.execute("TRUNCATE predictions, tokens, activity, usage_totals, load_failures CASCADE")
        opened_.execute("DELETE FROM workers WHERE state = 'failed'")


@pytest.fixture
def page(context: BrowserContext, service: Service, conn: Connection) -> Iterator[Page]:
    with opened(context, f"{service.url}/status") as found:
        expect(found.locator("#system .facts")).to_be_visible()
        yield found


def fail_a_delivery(conn: Connection, url: str = "https://hooks.example.com/a", error: str = "it said 503") -> str:
    delivery_id = write(conn, url)
    conn.execute(
        "UPDATE webhook_deliveries SET status = 'failed', attempts = 10, last_attempt_at = clock_timestamp(),"
        " last_status = 503, last_error = %s WHERE id = %s",
        (error, delivery_id),
    )
    return delivery_id


def fill(conn: Connection, service: Service) -> None:
    """Something in every section."""
    fail_a_delivery(conn)
    finish(conn, open_renderer(service.settings, conn), submit_one(conn)["id"], Failed("too large"))
    say_alive(conn, WorkerRow(uuid4(), "gpu-2", 9, "darkroom/nobody", "failed", error="no weights"))
    record_failure(conn, "darkroom/nobody", uuid4(), "no weights")


def test_what_is_drawn_meanwhile_appears_without_a_reload(page: Page, service: Service) -> None:
    card = page.locator(".model", has_text=BLANK)
    expect(card).to_contain_text("No prediction ended in the last hour.")
    body = {"model": BLANK, "input": {"prompt": "a red circle", "num_outputs": 3}}
    answer = requests.post(f"{service.url}/v1/predictions", json=body, headers={"Prefer": "wait=30"}, timeout=60)
    assert answer.json()["status"] == "succeeded"
    expect(card.locator("dl div", has_text="Pictures").locator("dd")).to_contain_text("3")
    expect(card.get_by_role("img", name=f"{BLANK}: 1 done, 0 failed, 0 canceled")).to_be_visible()
    expect(page.locator("#usage")).to_contain_text("no token")
    page.get_by_text("Last day", exact=True).click()
    expect(card.get_by_role("img", name=f"{BLANK}: 1 done, 0 failed, 0 canceled")).to_be_visible()


def test_it_says_at_a_glance_what_is_wrong(page: Page, conn: Connection, service: Service) -> None:
    health = page.locator("#health")
    expect(health).to_contain_text("No courier is running")
    with connect(service.settings.database_url, application_name="darkroom-rescue"):
        expect(health).to_have_text("All is well")
        fill(conn, service)
        expect(health).to_contain_text("darkroom/nobody can't be loaded: no weights")
        expect(page.locator("#workers")).to_contain_text("Could not start")
        expect(page.locator("#failures")).to_contain_text("too large")


def test_a_webhook_that_did_not_arrive_is_sent_again(page: Page, conn: Connection) -> None:
    delivery_id = fail_a_delivery(conn)
    row = page.locator("#webhooks tr", has_text="hooks.example.com")
    expect(row).to_contain_text("503 · it said 503")
    expect(row).to_contain_text("Given up")
    button = row.get_by_role("button", name=f"Send {delivery_id} again")
    button.focus()
    page.keyboard.press("Enter")
    expect(row).to_contain_text("Tried again")
    expect(button).to_be_focused()
    expect(page.locator("#announcements")).to_have_text("It will be sent again.")
    assert read(conn, delivery_id)["status"] == "pending"


def test_what_the_api_refuses_is_said(context: BrowserContext, service: Service, conn: Connection) -> None:
    delivery_id = fail_a_delivery(conn)
    with opened(context, f"{service.url}/status", allowed=("404",)) as page:
        button = page.get_by_role("button", name=f"Send {delivery_id} again")
        expect(button).to_be_visible()
        conn.execute("DELETE FROM webhook_deliveries")
        button.click()
        expect(page.locator("#problem")).to_contain_text("there is no webhook delivery")


def test_markup_is_shown_as_it_was_written(page: Page, conn: Connection, service: Service) -> None:
    evil = "<img src=x onerror=window.xss=1><script>window.xss=1</script>"
    create_token(conn, evil)
    renderer = open_renderer(service.settings, conn)
    finish(conn, renderer, submit_one(conn, model=evil, token_id=_token(conn))["id"], Failed(evil))
    fail_a_delivery(conn, f"https://hooks.example.com/{evil}", evil)
    conn.execute("UPDATE webhook_deliveries SET token_id = %s", (_token(conn),))
    say_alive(conn, WorkerRow(uuid4(), evil, 9, evil, "failed", device=evil, error=evil))
    record_failure(conn, evil, uuid4(), evil)
    conn.execute(
        "SELECT darkroom_note_activity('', now(), jsonb_build_object('delivered', 1, 'code ' || %s::text, 1))",
        (evil,),
    )
    for section in ("health", "models", "workers", "failures", "webhooks", "usage"):
        expect(page.locator(f"#{section}")).to_contain_text(evil)
    assert page.locator("main script, main img[src=x]").count() == 0
    assert page.evaluate("window.xss") is None


def _token(conn: Connection) -> int:
    row = conn.execute("SELECT max(id) AS id FROM tokens").fetchone()
    assert row is not None
    token_id: int = row["id"]
    return token_id


def test_it_asks_nothing_while_it_is_hidden(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    with page.expect_request("**/v1/status"):
        pass  # it asks again by itself
    show = "hidden => { Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});"
    show += "document.dispatchEvent(new Event('visibilitychange')) }"
    page.evaluate(show, True)
    asked.clear()
    page.wait_for_timeout(7_000)
    assert asked == []
    with page.expect_request("**/v1/status"):
        page.evaluate(show, False)


def test_text_that_is_marked_stays_until_it_is_let_go(page: Page, conn: Connection) -> None:
    page.evaluate("getSelection().selectAllChildren(document.getElementById('failures'))")
    before = page.locator("#failures").inner_text()
    conn.execute(
        "INSERT INTO predictions (id, status, model, version, queue_name, input, parameters, deadline_at, completed_at,"
        " error) VALUES ('1', 'failed', 'a/b', '1', 'q', '{}', '{}', now(), now(), 'no luck')"
    )
    for _ in range(2):
        with page.expect_response("**/v1/status"):
            pass
    assert page.locator("#failures").inner_text() == before
    page.evaluate("getSelection().removeAllRanges()")
    expect(page.locator("#failures")).to_contain_text("no luck")


def test_it_needs_a_token_with_the_scope_admin(
    context: BrowserContext, services: RunningServices, tmp_path: Any
) -> None:
    with (
        serving(services, tmp_path, auth="tokens") as guarded,
        connect(guarded.settings.database_url, application_name="test") as conn,
        opened(context, f"{guarded.url}/status", allowed=("401", "403")) as page,
    ):
        ordinary, admin = create_token(conn, "ordinary"), create_token(conn, "on-call", scopes=[Scope.ADMIN])
        page.get_by_label("Token", exact=True).fill(ordinary)
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#note")).to_contain_text("needs the scope `admin`")
        expect(page.locator("#sections")).to_be_hidden()
        page.locator("#token-button").click()
        page.get_by_label("Token", exact=True).fill(admin)
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#system .facts")).to_be_visible()
        expect(page.locator("#note")).to_be_hidden()
        assert page.evaluate("JSON.stringify([localStorage, document.cookie])").count("dr_") == 0


def test_it_speaks_chinese(page: Page) -> None:
    page.select_option("#language", "zh")
    expect(page.locator("#models-title")).to_have_text("模型")
    expect(page.locator("#models")).to_contain_text("等待中")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_in_the_way_of_a_screen_reader_or_a_phone(
    page: Page, conn: Connection, service: Service, theme: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.select_option("#theme", theme)
    fill(conn, service)
    counts = json.dumps({"succeeded": 9, "failed": 2, "canceled": 1, "images": 9, "q1": 4, "d2": 5, "l3": 1})
    conn.execute("SELECT darkroom_note_activity(%s, clock_timestamp(), %s)", (BLANK, counts))
    conn.execute("SELECT darkroom_note_activity('', clock_timestamp(), '{\"delivered\": 9, \"code 200\": 9}')")
    expect(page.locator("#webhooks button")).to_be_visible()
    expect(page.locator("#usage table")).to_be_visible()
    assert findings(page) == []
    assert page.evaluate(STICKS_OUT) == []


def test_its_modules_are_all_asked_for_at_once() -> None:
    folder = REPOSITORY / "api" / "page" / "static"
    needed, look_at = {"status/main.js"}, ["status/main.js"]
    while look_at:
        path = folder / look_at.pop()
        for found in re.findall(r'from "(\.{1,2}/[a-z_/.]+)";$', path.read_text("utf-8"), re.MULTILINE):
            name = (path.parent / found).resolve().relative_to(folder).as_posix()
            look_at += [name] if name not in needed else []
            needed.add(name)
    preloaded = re.findall(
        r'rel="modulepreload" href="\{assets\}/([^"]+)"', (folder / "status.html").read_text("utf-8")
    )
    assert set(preloaded) == needed


def test_it_says_how_many_workers_are_kept_ready(page: Page, conn: Connection) -> None:
    card = page.locator("article.model", has_text=BLANK)
    expect(card).not_to_contain_text("Kept ready")
    keep_warm(conn, BLANK, 600)
    expect(card).to_contain_text("Kept ready", timeout=60_000)
    expect(card).to_contain_text("until ")
    conn.execute("DELETE FROM warm_requests")
