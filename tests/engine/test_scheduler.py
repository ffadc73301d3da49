"""The drawing loop, step by step, on an engine that keeps its own time."""

from __future__ import annotations

import pytest

from storage.workers.step_costs import Load
from tests.engine.playing import PlayingEngine, Scene, free_sharing, saturated


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


def test_costs_that_another_worker_learned_are_used_from_the_first_step_on() -> None:
    scene = Scene(PlayingEngine(free_sharing))
    for images in range(1, 9):
        for _ in range(5):
            scene.admission.costs.observe(Load(images, images * 64 * 64), 1.0)
    for number in range(8):
        scene.add(f"{number}")
    scene.play(1)
    assert len(scene.engine.batches[0]) == 8
