"""The drawing loop, step by step, on an engine that keeps its own time."""

from __future__ import annotations

import pytest
from PIL import Image

from storage.predictions.parameters import Parameters
from storage.workers.step_costs import Load
from tests.engine.playing import Play, PlayingEngine, Scene
from worker.batching import scheduler
from worker.engine import DeviceLost, DrawingFailed, OutOfMemory, Pictures


def free_sharing(images: int) -> float:
    """A device that four pictures don't fill: a step takes as long for all of them as for one."""
    return 1.0


def saturated(images: int) -> float:
    """A device that one picture fills."""
    return float(images)


def test_a_drawing_takes_its_steps_and_is_drawn() -> None:
    scene = Scene()
    scene.add("one", steps=3)
    scene.play()
    assert scene.heard.ends == [("one", "drawn", "")]
    assert scene.heard.steps == [("one", 1), ("one", 2), ("one", 3)]


def test_the_time_of_the_device_is_shared_by_pixels_and_all_of_it_is_somebodys() -> None:
    scene = Scene(PlayingEngine(free_sharing))
    large, small = scene.add("large", steps=10, size=128), scene.add("small", steps=10, size=64, images=2)
    scene.play(10_000)
    assert len(scene.heard.of("drawn")) == 2
    assert large.gpu_s + small.gpu_s == pytest.approx(scene.engine.now)
    assert (large.image_steps, small.image_steps) == (10, 20)
    together = sum(len(batch) == 2 for batch in scene.engine.batches)
    assert large.gpu_s == pytest.approx(10 - together + together * 4 / 6)


def test_a_newcomer_joins_at_the_next_step() -> None:
    scene = Scene(PlayingEngine(free_sharing))
    scene.add("long", steps=10)
    scene.play(2)
    scene.add("short", steps=2)
    scene.play()
    assert scene.engine.batches[2:4] == [["long", "short"]] * 2
    assert scene.heard.of("drawn") == ["short", "long"]


def test_the_batch_grows_while_it_pays_and_no_further_than_the_catalog_says() -> None:
    scene = Scene(PlayingEngine(free_sharing), max_images=4)
    for number in range(12):
        scene.add(f"{number}", steps=20)
    scene.play()
    assert max(len(batch) for batch in scene.engine.batches) == 4
    assert len(scene.heard.of("drawn")) == 12


def test_a_saturated_device_soon_draws_one_at_a_time() -> None:
    scene = Scene(PlayingEngine(saturated))
    for number in range(12):
        scene.add(f"{number}", steps=8)
    scene.play()
    # Two were tried, for the eight steps of those two, and no more than two.
    assert max(len(batch) for batch in scene.engine.batches) == 2
    assert all(len(batch) == 1 for batch in scene.engine.batches[8:])
    assert scene.heard.of("drawn") == [f"{number}" for number in range(12)]


def test_priority_goes_before_age_and_nobody_is_skipped() -> None:
    scene = Scene(PlayingEngine(saturated), max_images=1)
    scene.add("old", steps=2)
    scene.add("older than urgent", steps=2)
    scene.add("urgent", steps=2, priority=9)
    scene.play()
    assert scene.heard.of("drawn") == ["urgent", "old", "older than urgent"]


def test_a_long_drawing_holds_a_short_one_up_for_no_longer_than_it_takes_alone() -> None:
    scene = Scene(PlayingEngine(free_sharing), max_images=2)
    scene.add("warm-up", steps=4)
    scene.play()
    for name in ("long", "other long"):
        scene.add(name, steps=100)
    scene.play(50)
    scene.engine.step_s = lambda images: 2.0 * images  # the device is slower than it was known to be
    scene.add("short", steps=4)
    scene.play()
    began = next(at for at, batch in enumerate(scene.engine.batches) if "short" in batch)
    assert scene.heard.of("drawn")[1] == "short"
    delay_caused_by_s = sum(4.0 for _ in scene.engine.batches[54:began])
    longest_alone_s = 100 * 2.0
    assert delay_caused_by_s <= longest_alone_s + 2 * 4.0
    assert set(scene.heard.of("drawn")) == {"warm-up", "long", "other long", "short"}


def test_a_drawing_that_let_a_shorter_one_pass_goes_on_where_it_was() -> None:
    scene = Scene(PlayingEngine(lambda images: 1.0 if images == 1 else 3.0), max_images=2)
    scene.add("first", steps=40)
    scene.add("second", steps=40)
    scene.play(10)
    scene.add("short", steps=3)
    scene.play()
    for name in ("first", "second"):
        assert [step for prompt, step in scene.heard.steps if prompt == name] == list(range(1, 41))
    assert scene.engine.begun.count("first") == 1


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


def test_a_run_to_the_end_takes_what_is_equal_and_nobody_joins_it() -> None:
    scene = Scene(PlayingEngine(free_sharing, joins_midway=False))
    scene.add("warm-up", steps=4)
    scene.play()
    for name, steps in (("a", 4), ("other", 6), ("b", 4)):
        scene.add(name, steps=steps)
    scene.play()
    assert scene.engine.batches[4:] == [["a", "b"]] * 4 + [["other"]] * 6


def test_a_run_to_the_end_stops_when_nobody_waits_for_it() -> None:
    scene = Scene(PlayingEngine(joins_midway=False))
    lost = scene.add("lost", steps=50)
    scene.add("next", steps=2)
    scene.engine.before_step = lambda plays: lost.lose() if plays[0].steps_done == 3 else None
    scene.play()
    assert scene.engine.batches == [["lost"]] * 4 + [["next"]] * 2
    assert (scene.heard.of("lost"), scene.heard.of("drawn")) == (["lost"], ["next"])


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


def test_prompts_are_encoded_before_a_slot_is_free() -> None:
    scene = Scene(PlayingEngine(saturated), max_images=1)
    scene.add("drawn", steps=5)
    scene.add("next", steps=5)
    scene.play(2)
    assert scene.engine.begun == ["drawn", "next"]
    assert scene.engine.batches == [["drawn"]] * 2


def test_free_slots_counts_those_that_soon_will_be_free_too() -> None:
    scene = Scene(PlayingEngine(lambda images: 0.1 * images), max_images=1)
    assert scene.scheduler.free_slots() == 1
    scene.add("a", steps=20)
    assert scene.scheduler.free_slots() == 0
    scene.play(10)
    assert scene.scheduler.free_slots() == 0
    scene.play(6)
    assert scene.scheduler.free_slots() == 1  # half a second before the slot is free
    scene.add("b", steps=20)
    assert scene.scheduler.free_slots() == 0


def test_no_more_large_pictures_are_claimed_than_are_drawn_at_once_though_small_ones_would_fit() -> None:
    scene = Scene(PlayingEngine(saturated))
    for images in range(1, 9):
        for _ in range(5):
            scene.admission.costs.observe(Load(images, images * 64 * 64), 1.0)  # small ones cost nothing more
    for _ in range(5):
        scene.admission.costs.observe(Load(1, 512 * 512), 10.0)
        scene.admission.costs.observe(Load(2, 2 * 512 * 512), 20.0)
    scene.add("small")
    scene.play(1)
    assert scene.scheduler.free_slots() == 7
    scene.add("large", size=512)
    scene.add("larger", size=512)
    scene.play(9)
    assert scene.engine.batches[-1] == ["large"]
    assert scene.scheduler.free_slots() == 0  # another worker may have what is still in the queue


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


def test_costs_that_another_worker_learned_are_used_from_the_first_step_on() -> None:
    scene = Scene(PlayingEngine(free_sharing))
    for images in range(1, 9):
        for _ in range(5):
            scene.admission.costs.observe(Load(images, images * 64 * 64), 1.0)
    for number in range(8):
        scene.add(f"{number}")
    scene.play(1)
    assert len(scene.engine.batches[0]) == 8


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


def test_what_is_told_to_leave_while_it_rests_leaves_without_waking() -> None:
    scene = Scene()
    scene.scheduler.rest()
    scene.play()
    scene.scheduler.leave_by(scene.engine.now)
    scene.scheduler.run()
    assert scene.engine.is_away
