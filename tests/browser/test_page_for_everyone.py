"""The page at `/` in any language and theme, on a phone, with the keyboard, with a screen reader, and how it loads."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from storage.postgres.database import Connection
from tests.browser.drawing import BLANK, NOBODYS, ask, card_of, findings, is_over, opened, words
from tests.conftest import REPOSITORY
from tests.support.serving import Service


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
