"""The drawing loop when something breaks: a request, a claim, the device or its memory."""

from __future__ import annotations

import pytest

from storage.predictions.parameters import Parameters
from tests.engine.playing import Play, PlayingEngine, Scene, free_sharing, saturated
from worker.batching import scheduler
from worker.engine import DeviceLost, DrawingFailed, OutOfMemory


def test_a_lost_claim_drops_its_drawing_at_the_next_step() -> None:
    scene = Scene(PlayingEngine(free_sharing))
    lost = scene.add("lost", steps=10)
    scene.add("kept", steps=10)
    scene.play(4)
    lost.lose()
    before = len(scene.engine.batches)
    scene.play()
    assert all("lost" not in batch for batch in scene.engine.batches[before:])
    assert (scene.heard.of("lost"), scene.heard.of("drawn")) == (["lost"], ["kept"])


def test_only_the_request_that_breaks_a_step_fails() -> None:
    def break_on_bad(plays: list[Play]) -> None:
        if any(play.parameters.prompt == "bad" and play.steps_done == 2 for play in plays):
            raise DrawingFailed("it divides by zero")

    scene = Scene(PlayingEngine(free_sharing, before_step=break_on_bad))
    for name in ("a", "bad", "b"):
        scene.add(name, steps=6)
    scene.play()
    assert sorted(scene.heard.of("drawn")) == ["a", "b"]
    assert ("bad", "failed", "it divides by zero") in scene.heard.ends
    for name in ("a", "b"):
        assert [step for prompt, step in scene.heard.steps if prompt == name] == [1, 2, 3, 4, 5, 6]


@pytest.mark.filterwarnings("ignore")
def test_only_the_request_that_breaks_a_whole_run_fails() -> None:
    def break_on_bad(plays: list[Play]) -> None:
        if any(play.parameters.prompt == "bad" and play.steps_done == 2 for play in plays):
            raise RuntimeError("no")

    scene = Scene(PlayingEngine(free_sharing, joins_midway=False, before_step=break_on_bad))
    scene.add("warm-up")
    scene.play()
    for name in ("a", "bad", "b"):
        scene.add(name)
    scene.play()
    assert sorted(scene.heard.of("drawn")) == ["a", "b", "warm-up"]
    assert scene.heard.of("failed") == ["bad"]


@pytest.mark.parametrize("stage", ["begin", "decode"])
def test_a_request_that_breaks_at_its_beginning_or_end_fails_alone(stage: str) -> None:
    def on_begin(parameters: Parameters) -> None:
        if stage == "begin" and parameters.prompt == "bad":
            raise DrawingFailed("no such words")

    def on_decode(play: Play) -> None:
        if stage == "decode" and play.parameters.prompt == "bad":
            raise DrawingFailed("no such words")

    scene = Scene(PlayingEngine(free_sharing, before_begin=on_begin, before_decode=on_decode))
    for name in ("a", "bad", "b"):
        scene.add(name)
    scene.play()
    assert sorted(scene.heard.of("drawn")) == ["a", "b"]
    assert ("bad", "failed", "no such words") in scene.heard.ends


def test_out_of_memory_sets_the_newest_back_and_the_device_is_not_asked_for_as_much_again() -> None:
    tried: list[int] = []

    def three_are_too_many(plays: list[Play]) -> None:
        tried.append(len(plays))
        if len(plays) > 2:
            raise OutOfMemory("no room")

    scene = Scene(PlayingEngine(free_sharing, before_step=three_are_too_many))
    for name in "abcdef":
        scene.add(name, steps=6)
    scene.play()
    assert sorted(scene.heard.of("drawn")) == list("abcdef")
    assert tried.count(3) == 1
    assert scene.engine.begun.count("c") == 2  # the newest one began anew
    assert scene.engine.begun.count("a") == 1


def test_alone_and_out_of_memory_fails_with_the_size_that_fits_and_the_next_one_works() -> None:
    def large_is_too_much(plays: list[Play]) -> None:
        if any(play.parameters.width > 64 for play in plays):
            raise OutOfMemory("no room")

    scene = Scene(PlayingEngine(before_step=large_is_too_much))
    scene.add("small")
    scene.add("large", size=128)
    scene.add("small again")
    scene.play()
    assert sorted(scene.heard.of("drawn")) == ["small", "small again"]
    [reason] = [why for prompt, what, why in scene.heard.ends if what == "failed"]
    assert "not enough memory for 128x128" in reason
    assert f"{64 * 64} pixels" in reason


def test_a_run_to_the_end_that_is_out_of_memory_goes_on_smaller() -> None:
    def two_are_too_many(plays: list[Play]) -> None:
        if len(plays) > 1:
            raise OutOfMemory("no room")

    scene = Scene(PlayingEngine(free_sharing, joins_midway=False, before_step=two_are_too_many))
    for name in "abc":
        scene.add(name)
    scene.play()
    assert sorted(scene.heard.of("drawn")) == list("abc")


def test_one_that_killed_a_worker_is_drawn_alone() -> None:
    scene = Scene(PlayingEngine(free_sharing))
    scene.add("a")
    scene.add("suspect", crashes=1)
    scene.add("b")
    scene.play()
    assert all(batch == ["suspect"] for batch in scene.engine.batches if "suspect" in batch)
    assert len(scene.heard.of("drawn")) == 3


def test_a_lost_device_ends_the_scheduler_and_says_what_was_on_it() -> None:
    def die(plays: list[Play]) -> None:
        raise DeviceLost("CUDA error: unspecified launch failure")

    scene = Scene(PlayingEngine(saturated, before_step=die), max_images=1)
    on_it = scene.add("on it")
    waits = scene.add("waits")
    scene.scheduler.run()
    assert isinstance(scene.scheduler.broken, DeviceLost)
    assert on_it.on_device
    assert not waits.on_device
    assert scene.scheduler.free_slots() == 0


def test_a_device_that_stays_full_when_the_engine_wakes_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        scene.engine.now += scheduler.WAKE_WITHIN_S / 2
        raise OutOfMemory("full")

    monkeypatch.setattr(scheduler, "WAKE_AGAIN_AFTER_S", 0.0)
    scene = Scene()
    scene.scheduler.rest()
    scene.play()
    scene.engine.before_wake = full
    scene.add("one", steps=2)
    with pytest.raises(DeviceLost, match="no memory for the weights any more"):
        scene.play()
