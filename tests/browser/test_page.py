"""The page at `/`, in a real Chromium against the whole running service: what it does."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from io import BytesIO
from typing import Any

import pytest
import requests
from PIL import Image
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, Route, expect

from storage.access.scopes import Scope
from storage.access.tokens import create_token, set_scopes
from storage.postgres.database import Connection, connect
from storage.predictions.finish import Failed, finish
from storage.predictions.render import open_renderer
from tests.browser.drawing import BLANK, NOBODYS, SLOW, ask, card_of, colour, fill, is_over, made, opened, words
from tests.conftest import RunningServices
from tests.support.making import submit_one
from tests.support.serving import Service, free_port, run, serving, stop, wait_until_ready
from worker.engine.blank import colour_of

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


def test_a_model_that_takes_pictures_is_given_them(page: Page) -> None:
    """By file, drop and paste."""
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
    assert "strength" not in given, "the model's own"
    mask.locator("input").set_input_files({"name": "b.png", "mimeType": "image/png", "buffer": sheets["second"]})
    expect(mask.locator("img")).to_be_visible()
    with page.expect_request(lambda sent: sent.method == "POST") as sent:
        page.click("#submit")
    body = sent.value.post_data_json
    assert body is not None
    assert body["input"]["strength"] == 0.6, "what the page shows: the API's own is 1 with a mask"
    for card in page.locator(".card").all():
        is_over(card)


def test_a_picture_that_was_sent_is_named_and_can_be_used_again(page: Page) -> None:
    """The API keeps no data of it in the input: only a description, which no browser can show."""
    page.select_option("#model", BLANK)
    picture = page.locator("#form").get_by_role("group", name="Picture")
    sheet = png("red")
    picture.locator("input").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": sheet})
    expect(picture.locator("img")).to_be_visible()
    prompt = words()
    is_over(ask(page, prompt, BLANK))
    page.locator(".card .open").click()
    named = f"PNG, {len(sheet)} bytes"
    expect(page.locator("#viewer dl")).to_contain_text(named)
    expect(page.locator("#viewer dl img")).to_have_count(0)
    page.get_by_role("button", name="Use these settings").click()
    expect(picture).to_contain_text(f"The same picture as before ({named})")
    expect(picture.locator("img")).to_be_hidden()
    page.reload()
    expect(picture).to_contain_text("The same picture as before")
    page.click("#submit")
    expect(page.locator(".card")).to_have_count(2)
    is_over(page.locator(".card").first)
    page.locator(".card .open").first.click()
    page.get_by_role("button", name="Another one").click()
    expect(page.locator(".card")).to_have_count(3)
    is_over(page.locator(".card").first)
    page.locator(".card .open").first.click()
    expect(page.locator("#viewer dl")).to_contain_text(named)
    page.keyboard.press("Escape")
    page.select_option("#language", "zh")
    expect(page.locator("#form .picture-field").first).to_contain_text("与之前相同的图片")


def test_loras_are_chosen_from_a_menu_with_their_strength(page: Page, service: Service) -> None:
    page.select_option("#model", NOBODYS)
    page.get_by_text("More settings").click()
    menus = page.locator("#form").get_by_role("combobox", name="LoRA")
    expect(menus).to_have_count(1)
    assert menus.locator("option").all_text_contents() == ["none", "outlined", "pastel"]
    expect(page.locator("#form .loras input")).to_be_hidden()
    menus.first.select_option("outlined")
    page.get_by_role("spinbutton", name="Strength of outlined").fill("0.5")
    expect(menus).to_have_count(2)
    expect(menus.nth(1).get_by_role("option", name="outlined")).to_be_disabled()
    menus.nth(1).select_option("pastel")
    expect(menus).to_have_count(2)
    menus.first.select_option("none")
    expect(menus).to_have_count(2)
    expect(menus.first).to_have_value("pastel")
    menus.nth(1).select_option("outlined")
    strength = page.get_by_role("spinbutton", name="Strength of outlined")
    expect(strength).to_have_value("")
    strength.fill("0.5")
    prompt = words()
    card = ask(page, prompt, NOBODYS)
    card.locator(".open").click()
    expect(page.locator("#viewer dl")).to_contain_text("pastel, outlined (0.5)")
    sent = requests.get(f"{service.url}/v1/predictions/{card.get_attribute('data-id')}", timeout=30).json()
    assert sent["input"]["loras"] == [{"name": "pastel"}, {"name": "outlined", "scale": 0.5}]
    page.keyboard.press("Escape")
    for lora in menus.all():
        expect(lora).not_to_have_value("")


def test_settings_come_back_under_whatever_name_they_were_sent(page: Page, service: Service) -> None:
    """Also inputs that the form has under another name, and what the model doesn't offer itself."""
    url = f"data:image/png;base64,{b64encode(png('blue')).decode()}"
    inputs = {"image_url": url, "lora_weights": "pastel", "lora_scale": 1.5, "strength": 0.35}
    prompt = words()
    made(service, prompt, input={"prompt": prompt, **inputs})
    card_of(page, prompt).locator(".open").click()
    expect(page.locator("#viewer dl")).to_contain_text("pastel (1.5)")
    page.get_by_role("button", name="Use these settings").click()
    form = page.locator("#form")
    expect(form.get_by_role("group", name="Picture")).to_contain_text("The same picture as before")
    page.get_by_text("More settings").click()
    expect(form.get_by_role("combobox", name="LoRA").first).to_have_value("pastel")
    expect(form.get_by_role("spinbutton", name="Strength of pastel")).to_have_value("1.5")
    strength = form.get_by_role("slider", name="Strength")
    expect(strength).to_have_value("0.35")
    expect(strength).to_have_accessible_description(re.compile("How much of the picture is drawn anew"))
    strength.press("Home")
    expect(strength).to_have_value("0.05")  # at 0, nothing would be drawn
    expect(form.get_by_text(re.compile("lora[ _](weights|scale)"))).to_have_count(0)


def test_a_model_that_takes_several_pictures_is_given_them_in_their_order(
    context: BrowserContext, service: Service
) -> None:
    """No model of this service takes several, so the test adds the input to the schema in the answer."""

    def with_pictures(route: Route) -> None:
        answer = route.fetch()
        models = answer.json()
        for model in models["results"]:
            inputs = model["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]["properties"]
            several = {"type": "array", "items": {"type": "string", "format": "uri"}, "maxItems": 2}
            for one_picture in ("image", "mask"):
                inputs.pop(one_picture, None)
            inputs |= {"images": several | {"x-order": 90}}
        route.fulfill(response=answer, json=models)

    with opened(context, service.url, allowed=("422",)) as page:  # the service itself knows no such input
        page.route("**/v1/models", with_pictures)
        page.reload()
        expect(page.locator("#submit")).to_be_enabled()
        page.select_option("#model", BLANK)
        first, second = (page.locator("#form").get_by_role("group", name=f"Picture {number}") for number in (1, 2))
        expect(second).to_have_count(0)
        sheets = [png("red"), png("lime")]
        first.locator("input").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png("blue")})
        second.locator("input").set_input_files({"name": "b.png", "mimeType": "image/png", "buffer": sheets[0]})
        expect(page.locator(".picture-field")).to_have_count(2)
        first.get_by_role("button", name="Remove the picture").click()
        expect(page.locator(".picture-field")).to_have_count(2)  # the one that is left, and an empty one
        page.locator("#prompt").evaluate(GIVE, ["paste", b64encode(sheets[1]).decode()])
        expect(second.locator("img")).to_be_visible()
        page.fill("#prompt", "from two pictures")
        with page.expect_request(lambda sent: sent.method == "POST") as sent:
            page.click("#submit")
        body = sent.value.post_data_json
        assert body is not None
        assert [b64decode(each.partition(",")[2]) for each in body["input"]["images"]] == sheets


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
