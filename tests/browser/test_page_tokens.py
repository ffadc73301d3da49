"""The page at `/` of a service that wants tokens."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import BrowserContext, expect

from storage.access.scopes import Scope
from storage.access.tokens import create_token, set_scopes
from storage.postgres.database import connect
from tests.browser.drawing import SLOW, ask, card_of, is_over, opened
from tests.conftest import RunningServices
from tests.support.serving import serving


def test_a_token_is_asked_for_and_kept_in_this_tab_alone(
    context: BrowserContext, services: RunningServices, tmp_path: Any
) -> None:
    with (
        serving(services, tmp_path, auth="tokens") as guarded,
        connect(guarded.settings.database_url, application_name="test") as conn,
        opened(context, guarded.url, allowed=("401", "WebSocket")) as page,
    ):
        token = create_token(conn, "page")
        dialog = page.get_by_role("dialog", name="This service needs a token")
        page.get_by_label("Token", exact=True).fill(token[:-1])
        page.get_by_role("button", name="Use it").click()
        expect(dialog.get_by_role("alert")).to_contain_text("no token of Darkroom")
        page.get_by_label("Token", exact=True).fill(token)
        page.get_by_role("button", name="Use it").click()
        expect(dialog).to_be_hidden()
        card = ask(page, "drawn with a token", SLOW)
        is_over(card)
        assert page.evaluate("JSON.stringify([localStorage, document.cookie])").count("dr_") == 0
        page.reload()
        is_over(card_of(page, "drawn with a token"))
        page.get_by_role("button", name="Token", exact=True).click()
        page.get_by_label("Token", exact=True).fill(create_token(conn, "another"))
        page.get_by_role("button", name="Use it").click()
        expect(page.locator(".card")).to_have_count(0)
        expect(page.locator("#filters [name=model] option")).to_have_count(4)
        other = context.new_page()
        other.goto(guarded.url)
        expect(other.get_by_role("dialog", name="This service needs a token")).to_be_visible()
        other.close()


def test_a_token_that_may_not_read_is_told_so(
    context: BrowserContext, services: RunningServices, tmp_path: Any
) -> None:
    with (
        serving(services, tmp_path, auth="tokens", workers=False) as guarded,
        connect(guarded.settings.database_url, application_name="test") as conn,
        opened(context, guarded.url, allowed=("401", "403", "WebSocket")) as page,
    ):
        page.get_by_label("Token", exact=True).fill(create_token(conn, "draws", scopes=frozenset({Scope.DRAW})))
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#note")).to_contain_text("scope `read`")
        expect(page.locator("#offline")).to_be_hidden()
        set_scopes(conn, "draws", frozenset({Scope.DRAW, Scope.READ}))
        expect(page.locator("#note")).to_have_text("Your pictures will appear here.", timeout=60_000)
