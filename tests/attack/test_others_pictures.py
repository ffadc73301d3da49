"""A client with a token of its own wants another's prompt, picture or secret."""

from __future__ import annotations

import base64
import json
import secrets
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.attack.bounds import FLOOD
from tests.attack.target import PROMPT, Client, Target, all_at_once

WORDS = [
    "' OR 1=1 --",
    "%27%20OR%201=1",
    "1; DROP TABLE predictions",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "%0d%0aSet-Cookie:%20a=b",
    "{{7*7}}",
    "%s%s%n",
    "\u202e",
]


@pytest.mark.parametrize("way", ["", "/cancel", "/events", "/ws", "/stream"])
def test_another_tokens_prediction_does_not_exist(target: Target, way: str) -> None:
    path = f"/v1/predictions/{target.picture['id']}{way}"
    answer = target.attacker.send("POST" if way == "/cancel" else "GET", path)
    assert answer.status_code == 404
    assert PROMPT not in answer.text


def test_lists_and_deliveries_leave_out_what_belongs_to_others(target: Target) -> None:
    for path in ("/v1/predictions", "/v1/webhook_deliveries", "/v1/models", "/v1/account", "/openapi.json"):
        answer = target.attacker.send("GET", path)
        assert answer.status_code == 200
        assert target.picture["id"] not in answer.text
        assert PROMPT not in answer.text


def test_a_forged_cursor_shows_nothing_of_others_and_breaks_nothing(target: Target) -> None:
    position = ["older", "2999-01-01T00:00:00+00:00", "z" * 26]
    forged = [
        position,
        ["newer", "1970-01-01T00:00:00+00:00", ""],
        ["older", "2999-01-01T00:00:00+00:00", "' OR token_id IS NOT NULL --"],
        ["sideways", *position[1:]],
        [*position, "more"],
        {"older": 1},
        "older",
        None,
        [[["older"]]],
    ]
    texts = [base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=") for value in forged]
    texts += [*WORDS, "A" * 3000, "=" * 8, "\x00"]
    for text in texts:
        answer = target.attacker.send("GET", "/v1/predictions", params={"cursor": text})
        assert answer.status_code in {200, 422}, text[:40]
        assert target.picture["id"] not in answer.text


@pytest.mark.parametrize("word", WORDS)
def test_words_that_mean_something_to_databases_shells_and_templates_are_only_words(target: Target, word: str) -> None:
    for path in (f"/v1/predictions/{word}", f"/v1/models/{word}/{word}", f"/v1/webhook_deliveries/{word}"):
        assert 400 <= target.attacker.send("GET", path).status_code < 500
    made = target.attacker.predict(input={"prompt": word.replace("%00", "nul"), "num_inference_steps": 1})
    assert made.status_code == 201
    assert made.json()["input"]["prompt"] == word.replace("%00", "nul")


def test_a_signed_link_opens_only_what_it_was_signed_for(target: Target) -> None:
    link = urlsplit(target.picture["output"][0])
    query = {name: values[0] for name, values in parse_qs(link.query).items()}
    own = target.attacker.send(
        "POST",
        "/v1/predictions",
        json={"model": "darkroom/blank", "input": {"prompt": secrets.token_hex(8)}},
        headers={"Prefer": "wait=60"},
    ).json()
    signed_for_own = {name: values[0] for name, values in parse_qs(urlsplit(own["output"][0]).query).items()}
    stream = {name: values[0] for name, values in parse_qs(urlsplit(own["urls"]["stream"]).query).items()}
    tampered = [
        (link.path, signed_for_own),
        (link.path, stream),
        (link.path, query | {"expires": str(int(query["expires"]) + 1)}),
        (link.path, query | {"expires": "9" * 12}),
        (link.path, query | {"expires": "1e9"}),
        (link.path, query | {"signature": query["signature"].upper()}),
        (link.path, query | {"signature": query["signature"][:-1]}),
        (link.path, query | {"signature": query["signature"] + "0"}),
        (link.path, query | {"signature": ""}),
        (link.path, {}),
        (link.path.replace("/0.", "/1."), query),
        (link.path.replace("/0.", "/00."), query),
        (link.path.replace("/0.", "/%30."), query | {"signature": "0" * 64}),
        (link.path.rpartition("/")[0] + "/stream", query),
        (link.path.rpartition("/")[0] + "/events", query),
    ]
    for path, parameters in tampered:
        answer = target.nobody.send("GET", path, params=parameters)
        assert answer.status_code in {403, 404}, (path, parameters)


def test_a_signature_is_not_guessed(target: Target) -> None:
    link = urlsplit(target.picture["output"][0])
    expires = parse_qs(link.query)["expires"][0]

    def guess(_: int) -> int:
        parameters = {"expires": expires, "signature": secrets.token_hex(32)}
        return target.nobody.send("GET", link.path, params=parameters).status_code

    assert set(all_at_once(guess, range(FLOOD))) == {403}


def test_a_token_is_not_guessed_and_wrong_ones_cost_little(target: Target) -> None:
    def guess(_: int) -> int:
        return Client(target.service.url, f"dr_{secrets.token_hex(19)}").send("GET", "/v1/predictions").status_code

    assert set(all_at_once(guess, range(FLOOD))) == {401}


def test_an_idempotency_key_of_another_token_tells_nothing(target: Target) -> None:
    key = {"Idempotency-Key": "shared-key"}
    inputs = {"prompt": PROMPT, "seed": 7}
    first = target.victim.send(
        "POST", "/v1/predictions", json={"model": "darkroom/blank", "input": inputs}, headers=key
    )
    second = target.attacker.send(
        "POST", "/v1/predictions", json={"model": "darkroom/blank", "input": {"prompt": "another"}}, headers=key
    )
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert PROMPT not in second.text
