"""Pictures that are broken, of other types, or much larger than they look, on every way into the service."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from tests.attack.bounds import LONG
from tests.attack.target import MODEL, Client, Target
from tests.hostile_pictures import Hostile, hostile_pictures
from tests.pictures import data_url
from tests.support.api_memory import memory_growth

PICTURES = hostile_pictures()
ROUNDS = 3 if LONG else 1
# One picture of the default MAX_INPUT_IMAGE_PIXELS takes 300 MB while it is decoded; nothing of it may stay.
MAX_LEFT_BYTES = 40 * 2**20


def as_data_url(attacker: Client, sent: Hostile) -> tuple[requests.Response, str]:
    return attacker.predict(input={"image": data_url(sent.data)}), "input.image"


def as_a_mask(attacker: Client, sent: Hostile) -> tuple[requests.Response, str]:
    fine = next(each.data for each in PICTURES if each.name == "palette")
    return attacker.predict(input={"image": data_url(fine), "mask": data_url(sent.data)}), "input.mask"


def as_an_uploaded_file(attacker: Client, sent: Hostile) -> tuple[requests.Response, str]:
    """An upload is not looked into until a request uses it."""
    uploaded = attacker.send("POST", "/v1/files", files={"content": ("a.png", sent.data, "image/png")})
    if not sent.data:
        return uploaded, "content"
    assert uploaded.status_code == 201, uploaded.text
    try:
        return attacker.predict(input={"image": uploaded.json()["urls"]["get"]}), "input.image"
    finally:
        attacker.send("DELETE", f"/v1/files/{uploaded.json()['id']}")


def as_an_edit(attacker: Client, sent: Hostile) -> tuple[requests.Response, str]:
    """OpenAI's route waits for the picture."""
    form = {"model": MODEL, "prompt": f"edit {sent.name}"}
    return attacker.send(
        "POST", "/v1/images/edits", data=form, files={"image": ("a.png", sent.data, "image/png")}
    ), "image"


@pytest.mark.parametrize("way", [as_data_url, as_a_mask, as_an_uploaded_file, as_an_edit])
def test_a_hostile_picture_is_refused_with_its_reason_or_drawn_from_and_leaves_no_memory_behind(
    target: Target, way: Callable[[Client, Hostile], tuple[requests.Response, str]]
) -> None:
    answered(target, way)  # the first time, libraries are loaded
    with memory_growth(target.service) as growth:
        for _ in range(ROUNDS):
            answered(target, way)
    assert growth.last < MAX_LEFT_BYTES


def answered(target: Target, way: Callable[[Client, Hostile], tuple[requests.Response, str]]) -> None:
    for sent in PICTURES:
        answer, field = way(target.attacker, sent)
        if sent.words:
            assert answer.status_code in (400, 422), (sent.name, answer.text)
            assert sent.words in answer.text or not sent.data, (sent.name, answer.text)
            assert field in answer.text, sent.name
        else:
            assert answer.status_code in (200, 201), (sent.name, answer.text)
