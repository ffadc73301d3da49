"""The words of the wire and the moves between them."""

from __future__ import annotations

from storage.predictions.states import TRANSITIONS, PredictionStatus


def test_the_words_are_those_that_every_client_takes() -> None:
    assert [status.value for status in PredictionStatus] == [
        "starting", "processing", "succeeded", "failed", "canceled",
    ]  # fmt: skip


def test_every_state_has_its_moves_and_terminal_ones_have_none() -> None:
    assert set(TRANSITIONS) == set(PredictionStatus)
    assert [status.value for status in PredictionStatus if status.is_terminal] == ["succeeded", "failed", "canceled"]
