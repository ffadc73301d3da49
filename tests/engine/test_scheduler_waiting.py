"""The drawing loop while it waits for pictures or for work, and when it is told to leave."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.engine.playing import PlayingEngine, Scene, free_sharing
from worker.engine import Pictures


@pytest.mark.parametrize("joins_midway", [True, False])
def test_leaving_returns_what_waits_at_once_and_the_rest_when_time_is_up(joins_midway: bool) -> None:
    scene = Scene(PlayingEngine(joins_midway=joins_midway), max_images=1)
    scene.add("quick", steps=2)
    scene.add("waits", steps=2)
    scene.engine.before_step = lambda plays: scene.scheduler.leave_by(5.0) if scene.engine.now == 1 else None
    scene.play()
    assert (scene.heard.of("drawn"), scene.heard.of("unfinished")) == (["quick"], ["waits"])
    late = Scene(PlayingEngine(joins_midway=joins_midway))
    late.add("slow", steps=20)
    late.engine.before_step = lambda plays: late.scheduler.leave_by(5.0) if late.engine.now == 1 else None
    late.play()
    assert late.heard.of("unfinished") == ["slow"]
    assert len(late.engine.batches) == 5
    assert late.scheduler.free_slots() == 0


@pytest.mark.parametrize("joins_midway", [True, False])
def test_what_waits_for_its_pictures_delays_no_other_and_is_drawn_when_they_are_there(joins_midway: bool) -> None:
    scene = Scene(PlayingEngine(free_sharing, joins_midway=joins_midway))
    edited = scene.add("edited", steps=3, image="a hash")
    scene.add("text", steps=3)
    scene.play()
    assert scene.heard.of("drawn") == ["text"]
    assert not scene.scheduler.turn(), "there is nothing to do meanwhile"
    edited.pictures = Pictures(Image.new("RGB", (64, 64)))
    scene.scheduler.wake()
    scene.play()
    assert scene.heard.of("drawn") == ["text", "edited"]


def test_what_can_not_have_its_pictures_fails_with_the_reason() -> None:
    scene = Scene()
    edited = scene.add("edited", image="a hash")
    scene.play()
    edited.failure = "The image is gone."
    scene.play()
    assert scene.heard.ends == [("edited", "failed", "The image is gone.")]


def test_what_waits_for_its_pictures_is_handed_back_by_a_worker_that_leaves() -> None:
    scene = Scene()
    scene.add("edited", image="a hash")
    scene.play()
    scene.scheduler.leave_by(10_000.0)
    scene.play()
    assert scene.heard.of("unfinished") == ["edited"]


def test_the_engine_rests_when_all_is_drawn_and_wakes_for_the_next_attempt() -> None:
    scene = Scene()
    scene.add("one", steps=2)
    scene.scheduler.rest()
    scene.play(1)
    assert not scene.scheduler.is_resting
    scene.play()
    assert scene.scheduler.is_resting
    assert scene.engine.is_away
    scene.add("two", steps=2)
    scene.play()
    assert scene.heard.of("drawn") == ["one", "two"]
    assert scene.scheduler.is_resting, "that was asked for, until it is woken"
    scene.scheduler.wake_up()
    scene.play()
    assert not scene.engine.is_away


def test_what_is_told_to_leave_while_it_rests_leaves_without_waking() -> None:
    scene = Scene()
    scene.scheduler.rest()
    scene.play()
    scene.scheduler.leave_by(scene.engine.now)
    scene.scheduler.run()
    assert scene.engine.is_away
