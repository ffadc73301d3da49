"""Origins are compared as browsers send them, and what they never send is refused."""

from __future__ import annotations

import pytest

from api.browsers.origins import Origins, normalized, parse_origin
from storage.errors import OperatorError


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80/", "http://app.example.com"),
        ("http://localhost:3000/", "http://localhost:3000"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("App://Obsidian.md", "app://obsidian.md"),
        ("tauri://localhost", "tauri://localhost"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        (
            "moz-extension://1f2e3d4c-0000-4000-8000-1234567890ab",
            "moz-extension://1f2e3d4c-0000-4000-8000-1234567890ab",
        ),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("*", "https://anything.example"),
        ("*", "null"),
    ],
)
def test_a_named_origin_is_let_in_whatever_its_case_and_default_port(named: str, sent: str) -> None:
    assert Origins.parse(f"https://other.example, {named}").allow(sent)


@pytest.mark.parametrize(
    "sent",
    [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil.example/https://app.example.com",
        "https://app.example.com@evil.example",
        "https://app.example.com,https://evil.example",
        "xhttps://app.example.com",
        "app.example.com",
        "null",
        "",
        "https://" + "a" * 5000,
    ],
)
def test_others_are_not(sent: str) -> None:
    assert not Origins.parse("https://app.example.com").allow(sent)
    assert not Origins.parse("").allow(sent)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("app.example.com", "no scheme"),
        ("localhost:3000", "no scheme"),
        ("https://*.example.com", "patterns are not supported"),
        ("https://*", "patterns are not supported"),
        ("https://app.example.com/page", "without a path"),
        ("https://app.example.com//", "without a path"),
        ("https://app.example.com?x", "without a path"),
        ("https://user@app.example.com", "not an origin"),
        ("https://", "not an origin"),
        ("file://", "not an origin"),
        ("https://app.example.com:99999", "ports go from 1 to 65535"),
        ("https://bücher.example", "xn--"),
        ("http://127.1:3000", "127.0.0.1"),
        ("http://[::g]", "not an origin"),
        ("null", "sandboxed"),
        ("https://app.example.com https://other.example.com", "not an origin"),
    ],
)
def test_what_no_browser_sends_is_refused(wrong: str, why: str) -> None:
    with pytest.raises(OperatorError, match="CORS_ORIGINS") as refused:
        Origins.parse(f"https://fine.example, {wrong}")
    assert why in str(refused.value)
    assert repr(wrong) in str(refused.value)


def test_other_ports_stay() -> None:
    assert parse_origin("https://app.example.com:80") == "https://app.example.com:80"
    assert parse_origin("app://x:443") == "app://x:443"
    assert normalized("http://app.example.com:0080") == "http://app.example.com"
