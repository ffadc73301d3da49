"""What the page at `/` shows of a drawing while it comes, in every tab, and after the API was away."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from storage.postgres.database import Connection
from tests.browser.drawing import BLANK, NOBODYS, SLOW, ask, card_of, colour, is_over, made, opened, words
from tests.support.serving import Service, free_port, run, stop, wait_until_ready
from worker.engine.blank import colour_of

# Every picture that the card of a prompt shows and every share of its bar, from before there is such a card.
WATCH = """prompt => {
    window.seen = {previews: new Set(), shares: new Set()}
    const look = () => {
        const card = [...document.querySelectorAll(".card")].find(each => each.textContent.includes(prompt))
        if (!card) return
        const [image, bar] = [card.querySelector("img"), card.querySelector(".bar:not([hidden]) span")]
        if (image?.src.startsWith("data:image/webp")) window.seen.previews.add(image.src)
        if (bar?.style.transform) window.seen.shares.add(Number(bar.style.transform.match(/[0-9.]+/)[0]))
    }
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true})
}"""


def test_a_picture_is_seen_to_come(page: Page, service: Service) -> None:
    prompt = words()
    page.evaluate(WATCH, prompt)
    card = ask(page, prompt, SLOW)
    is_over(card)
    seen = page.evaluate("({previews: window.seen.previews.size, shares: [...window.seen.shares]})")
    assert seen["previews"] >= 1
    assert len(seen["shares"]) >= 3
    assert seen["shares"] == sorted(seen["shares"])
    [drawn] = requests.get(f"{service.url}/v1/predictions?q={prompt.split()[-1]}", timeout=30).json()["results"]
    assert colour(card.locator("img")) == pytest.approx(colour_of(prompt, drawn["seed"]), abs=4)
    expect(page.locator("#announcements")).to_have_text(f"Done: {prompt}")


def test_what_waits_says_its_place_and_can_be_canceled_and_tried_again(page: Page) -> None:
    first, second = ask(page, words(), NOBODYS), ask(page, words(), NOBODYS)
    expect(first.locator(".state")).to_contain_text("Next in the queue")
    expect(second.locator(".state")).to_contain_text("No. 2 in the queue")
    first.get_by_role("button", name="Cancel").click()
    is_over(first, "canceled")
    expect(second.locator(".state")).to_contain_text("Next in the queue")
    first.get_by_role("button", name="Try again").click()
    expect(page.locator(".card[data-status=starting]")).to_have_count(2)


def test_a_reload_and_another_tab_lose_nothing(page: Page, context: BrowserContext, service: Service) -> None:
    prompt = words()
    ask(page, prompt, SLOW)
    page.fill("#prompt", "half a thought")
    page.reload()
    assert page.input_value("#prompt") == "half a thought"
    expect(page.locator("#model")).to_have_value(SLOW)
    with opened(context, service.url) as other:
        is_over(card_of(page, prompt))
        is_over(card_of(other, prompt))
        later = words()
        ask(other, later, BLANK)
        is_over(card_of(page, later))


def test_ten_tabs_hear_of_everything(page: Page, context: BrowserContext, service: Service) -> None:
    """Browsers open six connections to a host at most, so that ten streams would be four too many."""
    others = [context.new_page() for _ in range(9)]
    for each in others:
        each.goto(service.url)
        expect(each.locator("#submit")).to_be_enabled()
    prompt = words()
    ask(page, prompt, BLANK)
    for each in others:
        is_over(card_of(each, prompt))
        each.close()


def test_it_comes_back_when_the_api_was_away(context: BrowserContext, service: Service, conn: Connection) -> None:
    """The page is served by a second API process, which stops and starts again."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    second = run("api", service.environment, "--port", str(port))
    try:
        wait_until_ready(url, second)
        away = ("ERR_CONNECTION_REFUSED", "WebSocket")
        with opened(context, url, allowed=away) as page:
            lost = ask(page, words(), NOBODYS)
            stop([second])
            expect(page.locator("#offline")).to_be_visible()
            meanwhile = made(service, "asked for meanwhile")
            id_ = lost.get_attribute("data-id")
            requests.post(f"{service.url}/v1/predictions/{id_}/cancel", timeout=30).raise_for_status()
            second = run("api", service.environment, "--port", str(port))
            is_over(lost, "canceled")
            expect(page.locator(f"[data-id='{meanwhile['id']}']")).to_be_visible()
            expect(page.locator("#offline")).to_be_hidden()
    finally:
        stop([second])
