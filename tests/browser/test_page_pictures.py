"""The pictures that somebody gives the page at `/` to draw from."""

from __future__ import annotations

from base64 import b64decode, b64encode

from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.drawing import BLANK, ask, colour, is_over, opened, png, words
from tests.support.serving import Service

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
