"""The page at `/`, in a real Chromium against the whole running service."""

from __future__ import annotations

import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, Route, expect

from storage.access.tokens import create_token
from storage.postgres.database import Connection, connect
from storage.predictions.finish import Failed, finish
from storage.predictions.render import open_renderer
from tests.browser.drawing import NOBODYS, SLOW, ask, card_of, colour, is_over, opened
from tests.conftest import REPOSITORY, RunningServices
from tests.making import submit_one
from tests.serving import Service, free_port, run, serving, stop, wait_until_ready
from worker.engine.blank import colour_of

BLANK = "darkroom/blank"
# Every state that a card was in, and every picture that it showed, as long as it is watched.
WATCH = """card => {
    window.seen = {previews: new Set(), shares: new Set()}
    const look = () => {
        const [image, bar] = [card.querySelector("img"), card.querySelector(".bar:not([hidden]) span")]
        if (image.src.startsWith("data:image/webp")) window.seen.previews.add(image.src)
        if (bar?.style.transform) window.seen.shares.add(Number(bar.style.transform.match(/[0-9.]+/)[0]))
    }
    new MutationObserver(look).observe(card, {subtree: true, attributes: true})
}"""


@pytest.fixture(scope="module")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(services, tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def conn(service: Service) -> Iterator[Connection]:
    with connect(service.settings.database_url, application_name="test") as opened:
        yield opened
        opened.execute("TRUNCATE predictions CASCADE")


@pytest.fixture
def page(context: BrowserContext, service: Service, conn: Connection) -> Iterator[Page]:
    with opened(context, service.url) as found:
        yield found


def words() -> str:
    return f"a circle {secrets.token_hex(4)}"


def made(service: Service, prompt: str, **more: Any) -> Any:
    body = {"model": NOBODYS, "input": {"prompt": prompt}} | more
    answer = requests.post(f"{service.url}/v1/predictions", json=body, timeout=30)
    assert answer.ok, answer.text
    return answer.json()


def fill(conn: Connection, count: int) -> None:
    """Canceled predictions, a minute apart, with the prompts "number 1" (the newest) to "number {count}"."""
    conn.execute(
        """
        INSERT INTO predictions (id, status, model, version, queue_name, input, parameters, created_at, completed_at,
                                 deadline_at)
        SELECT lpad(n::text, 26, '0'), 'canceled', %s, '1', 'q', jsonb_build_object('prompt', 'number ' || n), '{}',
               now() - n * interval '1 minute', now(), now()
        FROM generate_series(1, %s) AS n
        """,
        (BLANK, count),
    )


def test_a_picture_is_seen_to_come(page: Page, service: Service) -> None:
    prompt = words()
    card = ask(page, prompt, SLOW)
    card.evaluate(WATCH)
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


def test_another_one_has_another_seed(page: Page) -> None:
    card = ask(page, words(), BLANK)
    is_over(card)
    card.locator(".open").click()
    page.get_by_role("button", name="Another one").click()
    expect(page.locator(".card")).to_have_count(2)
    is_over(page.locator(".card").first)
    assert colour(page.locator(".card img").first) != colour(page.locator(".card img").last)


def test_the_form_is_the_models_own(page: Page) -> None:
    page.select_option("#model", BLANK)
    page.get_by_text("More settings").click()
    form = page.locator("#form")
    for shown in (form.get_by_role("textbox", name="Seed"), form.get_by_label("Steps"), form.get_by_text("Format")):
        expect(shown).to_be_visible()
    form.get_by_text("4:3").click()
    page.get_by_role("button", name="Pick a seed").click()
    seed = form.get_by_role("textbox", name="Seed").input_value()
    page.locator("[type=range]").first.fill("3")
    page.fill("#prompt", words())
    page.click("#submit")
    is_over(page.locator(".card"))
    expect(page.locator(".card .count")).to_have_text("×3")
    page.locator(".card .open").click()
    facts = page.locator("#viewer dl").inner_text()
    assert seed in facts
    assert re.findall(r"(?:Width|Height)\s+([0-9]+)", facts) == ["80", "64"]
    expect(page.locator("#viewer [data-part=pictures] img")).to_have_count(3)


# Gives a picture to an element as a browser does: `kind` is drop or paste.
GIVE = """async (element, [kind, base64]) => {
    const bytes = Uint8Array.from(atob(base64), each => each.charCodeAt(0))
    const transfer = new DataTransfer()
    transfer.items.add(new File([bytes], "given.png", {type: "image/png"}))
    const more = {bubbles: true, cancelable: true}
    element.dispatchEvent(
        kind === "drop" ? new DragEvent("drop", {dataTransfer: transfer, ...more})
                        : new ClipboardEvent("paste", {clipboardData: transfer, ...more})
    )
}"""


def test_a_model_that_takes_pictures_is_given_them(page: Page, conn: Connection) -> None:
    """By file, drop and paste. No model takes any so far, so the test adds two inputs to the schema in the answer."""

    def with_pictures(route: Route) -> None:
        answer = route.fetch()
        models = answer.json()
        for model in models["results"]:
            inputs = model["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]["properties"]
            inputs |= {name: {"type": "string", "format": "uri", "x-order": 90} for name in ("image", "mask")}
        route.fulfill(response=answer, json=models)

    page.route("**/v1/models", with_pictures)
    page.reload()
    expect(page.locator("#submit")).to_be_enabled()
    page.select_option("#model", BLANK)
    sheets = {name: png(colour) for name, colour in (("first", "red"), ("second", "lime"), ("third", "blue"))}
    image, mask = (page.locator("#form").get_by_role("group", name=name) for name in ("Picture", "Mask"))
    image.locator("input").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": sheets["first"]})
    expect(image.locator("img")).to_be_visible()
    page.locator("#prompt").evaluate(GIVE, ["paste", b64encode(sheets["second"]).decode()])
    assert colour(mask.locator("img")) == [0, 255, 0]
    image.locator("input").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(image.get_by_role("alert")).to_contain_text("not a picture")
    assert colour(image.locator("img")) == [255, 0, 0]
    image.locator("label").evaluate(GIVE, ["drop", b64encode(sheets["third"]).decode()])
    expect(image.locator("img")).to_have_attribute(
        "src", f"data:image/png;base64,{b64encode(sheets['third']).decode()}"
    )
    mask.get_by_role("button", name="Remove the picture").click()
    page.fill("#prompt", "from a picture")
    with page.expect_request(lambda sent: sent.method == "POST") as sent:
        page.click("#submit")
    body = sent.value.post_data_json
    assert body is not None
    given = body["input"]
    assert b64decode(given["image"].partition(",")[2]) == sheets["third"]
    assert "mask" not in given
    is_over(page.locator(".card"))
    row = submit_one(conn, model=NOBODYS, input={"prompt": "with a picture", "image": given["image"]})
    page.locator(f"[data-id='{row['id']}'] .open").click()
    assert colour(page.locator("#viewer dd img")) == [0, 0, 255]


def png(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def test_what_the_api_refuses_is_said(context: BrowserContext, service: Service, conn: Connection) -> None:
    with opened(context, service.url, allowed=("422",)) as page:
        expect(page.locator("#submit")).to_be_enabled()
        page.select_option("#model", SLOW)
        page.locator("#form").get_by_text("Other").click()
        page.evaluate("document.querySelector('.own-size input').step = 'any'")  # else the browser refuses it already
        page.locator(".own-size input").first.fill("65")
        page.fill("#prompt", "a circle")
        page.click("#submit")
        expect(page.get_by_role("alert").filter(has_text="width")).to_be_visible()
        assert page.locator(".card").count() == 0


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


def test_language_and_theme_are_switched_and_remembered(
    page: Page, context: BrowserContext, service: Service, conn: Connection
) -> None:
    dark = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(dark)
    page.select_option("#theme", "dark")
    assert page.evaluate(dark) != light
    page.select_option("#language", "zh")
    expect(page.locator("#submit")).to_have_text("绘制")
    assert page.evaluate("document.documentElement.lang") == "zh"
    page.reload()
    expect(page.locator("#submit")).to_have_text("绘制")
    assert page.evaluate(dark) != light
    page.select_option("#language", "en")
    expect(page.locator("#submit")).to_have_text("Draw")


def test_a_browser_in_chinese_gets_chinese(browser: Any, service: Service) -> None:
    context = browser.new_context(locale="zh-CN")
    with opened(context, service.url) as page:
        expect(page.locator("#submit")).to_have_text("绘制")
    context.close()


def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    expect(page.locator("#submit")).to_be_enabled()
    page.locator("#prompt").focus()
    page.keyboard.type("drawn without a mouse")
    page.keyboard.press("Enter")
    card = card_of(page, "drawn without a mouse")
    is_over(card)
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "open":
            break
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer).to_be_visible()
    for _ in range(20):
        if page.evaluate("document.activeElement.innerText") == "Keep":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(viewer.get_by_role("button", name="Kept")).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "open"
    waiting = ask(page, "given up without a mouse", NOBODYS)
    waiting.get_by_role("button", name="Cancel").press("Enter")
    is_over(waiting, "canceled")
    expect(waiting.locator(".open")).to_be_focused()
    delete(page)
    expect(card.locator(".open")).to_be_focused()
    delete(page)
    expect(page.locator("#prompt")).to_be_focused()


def delete(page: Page) -> None:
    """Delete the picture whose card has the focus, with the keyboard."""
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete").press("Enter")
    page.get_by_role("button", name="Delete for good?").press("Enter")
    expect(page.get_by_role("dialog", name="Picture")).to_be_hidden()


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


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_wider_than_a_phone(page: Page, language: str) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    page.select_option("#language", language)
    page.evaluate("document.getElementById('token-button').hidden = false")
    card = ask(page, "one_very_long_word" * 10, BLANK)
    is_over(card)
    page.get_by_text("More settings" if language == "en" else "更多设置").click()
    width = "document.scrollingElement.scrollWidth"
    assert page.evaluate(width) == 320
    card.locator(".open").click()
    page.locator("#viewer summary").first.click()
    assert page.locator(".viewer").evaluate("each => each.scrollWidth") == 320
    assert page.evaluate(width) == 320


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_in_the_way_of_a_screen_reader(page: Page, theme: str) -> None:
    """axe-core's rules: names, roles, contrast, order. A serious or critical finding is a fault."""
    page.select_option("#theme", theme)
    page.emulate_media(reduced_motion="reduce")
    card = ask(page, words(), BLANK)
    ask(page, words(), NOBODYS)
    is_over(card)
    page.get_by_text("More settings").click()
    assert findings(page) == []
    card.locator(".open").click()
    page.get_by_text("Use in a program").click()
    assert findings(page) == []
    page.keyboard.press("Escape")
    page.evaluate("document.getElementById('token-dialog').showModal()")
    assert findings(page) == []


def findings(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in violations
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_it_is_small_and_comes_from_here_alone(page: Page, service: Service) -> None:
    expect(page.locator("#submit")).to_be_enabled()
    loaded = page.evaluate("performance.getEntriesByType('resource').map(each => [each.name, each.transferSize])")
    assert len([name for name, _ in loaded if "/assets/" in name]) > 10
    assert sum(size for _, size in loaded) < 70_000
    assert [name for name, _ in loaded].count(f"{service.url}/v1/models") == 1
    answer = requests.get(service.url, headers={"Accept": "text/html"}, timeout=30)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy


def test_its_modules_are_all_asked_for_at_once() -> None:
    """A module that is only found when another one has come costs a round trip more."""
    folder = REPOSITORY / "api" / "page" / "static"
    needed, look_at = {"main.js"}, ["main.js"]
    while look_at:
        path = folder / look_at.pop()
        for found in re.findall(
            r'^import .*?from "(\./[a-z_/.]+)";$', path.read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            name = (path.parent / found).resolve().relative_to(folder).as_posix()
            look_at += [name] if name not in needed else []
            needed.add(name)
    preloaded = re.findall(r'rel="modulepreload" href="\{assets\}/([^"]+)"', (folder / "index.html").read_text("utf-8"))
    assert set(preloaded) == needed


def test_both_languages_have_words_for_everything(page: Page, service: Service) -> None:
    load = "async name => Object.keys((await import(new URL(`${name}.js`, document.body.dataset.words))).default)"
    module = page.evaluate("document.querySelector('script[type=module]').src")
    folder = module.removesuffix("main.js") + "words/"
    page.evaluate("folder => document.body.dataset.words = folder", folder)
    english, chinese = page.evaluate(load, "en"), page.evaluate(load, "zh")
    assert sorted(english) == sorted(chinese)
    said = {
        key
        for path in (REPOSITORY / "api" / "page" / "static").rglob("*.*")
        for key in re.findall(r'''\bt\("([a-z_.]+)"|data-t(?:-[a-z]+)?="([a-z_.]+)"''', path.read_text("utf-8"))
        for key in key
        if key
    }
    assert len(said) > 50
    assert said - set(english) == set()
