"""What is a token, and what is not."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from storage.access.token_format import ALPHABET, digest_of, is_token, new_token, shown_of

PLACES = st.integers(min_value=0, max_value=40)


def test_a_new_token_has_the_form_of_one_and_is_never_the_same() -> None:
    tokens = {new_token() for _ in range(200)}
    assert len(tokens) == 200
    assert all(is_token(token) and len(token) == 41 and token.startswith("dr_") for token in tokens)


@given(PLACES, st.sampled_from(ALPHABET))
def test_a_token_with_one_wrong_character_is_none(place: int, other: str) -> None:
    token = new_token()
    wrong = token[:place] + other + token[place + 1 :]
    assume(wrong != token)
    assert not is_token(wrong)


@given(PLACES)
def test_a_token_with_two_characters_swapped_or_one_missing_is_none(place: int) -> None:
    token = new_token()
    assert not is_token(token[:place] + token[place + 1 :])
    swapped = token[:place] + token[place + 1 : place + 2] + token[place : place + 1] + token[place + 2 :]
    assume(swapped != token)
    assert not is_token(swapped)


@given(st.text() | st.from_regex(r"dr_[0-9A-Za-z]{38}", fullmatch=True))
def test_any_text_can_be_asked_about(text: str) -> None:
    assert is_token(text) in {True, False}


def test_what_is_stored_and_shown_does_not_give_it_away() -> None:
    token = new_token()
    assert len(digest_of(token)) == 64
    assert token[8:] not in digest_of(token) + shown_of(token)
