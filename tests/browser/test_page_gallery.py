"""The gallery of the page at `/`: as many pictures as there are, found, looked at, kept and deleted."""

from __future__ import annotations

import requests
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, Route, expect

from storage.postgres.database import Connection
from storage.predictions.finish import Failed, finish
from storage.predictions.render import open_renderer
from tests.browser.drawing import BLANK, NOBODYS, SLOW, ask, fill, is_over, made, opened, words
from tests.support.making import submit_one
from tests.support.serving import Service


def test_the_gallery_goes_on_for_ever(context: BrowserContext, service: Service, conn: Connection) -> None:
    fill(conn, 500)
    with opened(context, service.url) as page:
        expect(page.locator(".card").first).to_contain_text("number 1")
        assert page.locator(".card").count() < 200
        for _ in range(20):
            page.mouse.wheel(0, 20_000)
            page.wait_for_timeout(100)
            if page.locator(".card").count() == 500:
                break
        expect(page.locator(".card")).to_have_count(500)
        numbers = [text.strip() for text in page.locator(".card .prompt").all_text_contents()]
        assert numbers == [f"number {n}" for n in range(1, 501)]


def test_a_large_screen_is_filled_without_scrolling(browser: Browser, service: Service, conn: Connection) -> None:
    fill(conn, 200)
    context = browser.new_context(viewport={"width": 3840, "height": 2160})
    with opened(context, service.url) as page:
        expect(page.locator("[data-id]").nth(100)).to_be_attached()
    context.close()


def test_a_list_that_arrives_late_undoes_nothing(page: Page, service: Service) -> None:
    """A prediction that is made while the list is on its way stays, and one that is deleted meanwhile stays away."""
    deleted = made(service, words())
    expect(page.locator(f"[data-id='{deleted['id']}']")).to_be_visible()
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/v1/predictions?*", lambda route: held.append((route, route.fetch())))
    page.get_by_role("button", name="Clear").click()
    while not held:
        page.wait_for_timeout(20)
    mine = ask(page, words(), NOBODYS)
    requests.delete(f"{service.url}/v1/predictions/{deleted['id']}", timeout=30).raise_for_status()
    expect(page.locator(".card")).to_have_count(1)
    [(route, answer)] = held
    with page.expect_response("**/v1/predictions?*"):
        route.fulfill(response=answer)
    expect(page.locator("#gallery")).to_have_attribute("aria-busy", "false")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(page.locator(".card")).to_have_count(1)
    expect(mine).to_be_visible()


def test_search_by_words_state_and_model(page: Page, service: Service, conn: Connection) -> None:
    wanted = made(service, "a lighthouse at dusk")
    made(service, "a fox in the snow")
    drawn = ask(page, "a lighthouse in blue", BLANK)
    is_over(drawn)
    page.fill("[name=q]", "lighthouse")
    expect(page.locator(".card")).to_have_count(2)
    page.select_option("[name=status]", "unfinished")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator(".card")).to_have_attribute("data-id", wanted["id"])
    page.select_option("#filters [name=model]", SLOW)
    expect(page.locator("#note")).to_have_text("Nothing matches this search.")
    made(service, "a lighthouse that is told of by an event")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".card")).to_have_count(4)


def test_one_picture_in_full_kept_and_deleted(page: Page, service: Service) -> None:
    prompt = words()
    card = ask(page, prompt, BLANK)
    is_over(card)
    card.locator(".open").click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.locator("dl")).to_contain_text("darkroom/blank")
    expect(viewer.locator("dl")).to_contain_text("Seed")
    with page.expect_download() as download:
        viewer.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".png")
    viewer.get_by_role("button", name="Keep").click()
    expect(viewer.get_by_role("button", name="Kept")).to_have_attribute("aria-pressed", "true")
    expect(card.locator(".kept")).to_be_visible(visible=True)
    viewer.get_by_text("Use in a program").click()
    for name, part in (("curl", "Prefer: wait"), ("Python", "replicate.Client"), ("JavaScript", "new Replicate")):
        viewer.get_by_role("button", name=name, exact=True).click()
        expect(viewer.locator("details pre").first).to_contain_text(part)
        expect(viewer.locator("details pre").first).to_contain_text(prompt)
    viewer.get_by_role("button", name="Use these settings").click()
    assert page.input_value("#prompt") == prompt
    card.locator(".open").click()
    viewer.get_by_role("button", name="Delete").click()
    viewer.get_by_role("button", name="Delete for good?").click()
    expect(card).to_have_count(0)
    expect(viewer).to_be_hidden()
    assert requests.get(f"{service.url}/v1/predictions", timeout=30).json()["results"] == []


def test_markup_is_shown_as_it_was_written(
    context: BrowserContext, service: Service, conn: Connection, page: Page
) -> None:
    evil = "<img src=x onerror=window.xss=1><script>window.xss=1</script>"
    prediction = made(service, evil, metadata={evil[:60]: evil})
    renderer = open_renderer(service.settings, conn)
    finish(conn, renderer, prediction["id"], Failed(evil, logs=evil))
    row = submit_one(conn, model=evil, input={"prompt": "by a model of that name", evil: evil})
    for id_ in (prediction["id"], row["id"]):
        page.locator(f"[data-id='{id_}'] .open").click()
        viewer = page.locator("#viewer")
        viewer.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
        assert evil in viewer.inner_text()
        assert viewer.locator("script, img[src=x]").count() == 0
        page.keyboard.press("Escape")
    assert page.locator(".card script, .card img[src=x]").count() == 0
    assert page.evaluate("window.xss") is None
