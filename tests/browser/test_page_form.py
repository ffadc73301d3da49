"""The form of the page at `/`: what the chosen model offers, settings that come back, and what the API refuses."""

from __future__ import annotations

import re
from base64 import b64encode

import requests
from playwright.sync_api import BrowserContext, Page, expect

from storage.postgres.database import Connection
from tests.browser.drawing import BLANK, NOBODYS, SLOW, ask, card_of, colour, is_over, made, opened, png, words
from tests.support.serving import Service


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
    expect(strength).to_have_accessible_description(re.compile("How much of the picture is redrawn"))
    strength.press("Home")
    expect(strength).to_have_value("0.05")  # at 0, nothing would be drawn
    expect(form.get_by_text(re.compile("lora[ _](weights|scale)"))).to_have_count(0)


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
