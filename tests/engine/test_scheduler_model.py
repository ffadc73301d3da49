"""Any arrivals, cancels, failures and memory shortages at any point: each attempt ends exactly once, as it must."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.playing import Play, PlayingEngine, Scene
from worker.attempts.attempt import Attempt
from worker.engine import DrawingFailed, OutOfMemory

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "25")) * 6


@dataclass(frozen=True)
class Request:
    """What arrives, and what it will meet."""

    at: float  # of the engine's time
    steps: int
    size: int
    priority: int
    suspect: bool
    cancel_after: float | None
    breaks_at: int | None  # the step that it breaks


requests = st.builds(
    Request,
    at=st.floats(0, 60),
    steps=st.integers(1, 30),
    size=st.sampled_from([64, 128, 256]),
    priority=st.integers(0, 2),
    suspect=st.sampled_from([False] * 9 + [True]),
    cancel_after=st.none() | st.floats(0, 40),
    breaks_at=st.none() | st.none() | st.integers(0, 29),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    arrivals=st.lists(requests, max_size=14),
    joins_midway=st.booleans(),
    growth=st.floats(0, 1.2),  # what each further image adds to a step
    room_pixels=st.sampled_from([256 * 256, 3 * 256 * 256, 10**9]),
    one_off_shortages=st.sets(st.integers(0, 60), max_size=3),
    leave_at=st.none() | st.floats(0, 200),
)
def test_every_commission_ends_once_as_it_must(
    arrivals: list[Request],
    joins_midway: bool,
    growth: float,
    room_pixels: int,
    one_off_shortages: set[int],
    leave_at: float | None,
) -> None:
    engine = PlayingEngine(lambda images: 1.0 + growth * (images - 1), joins_midway=joins_midway)
    scene = Scene(engine)
    asked = {f"{number}": request for number, request in enumerate(arrivals)}
    attempts: dict[str, Attempt] = {}
    calls = 0

    def device(plays: list[Play]) -> None:
        nonlocal calls
        calls += 1
        assert len(plays) == 1 or not any(asked[play.parameters.prompt].suspect for play in plays)
        if calls in one_off_shortages and len(plays) > 1:
            raise OutOfMemory("somebody else took it")
        if sum(play.parameters.width**2 for play in plays) > room_pixels:
            raise OutOfMemory("no room")
        if any(asked[play.parameters.prompt].breaks_at == play.steps_done for play in plays):
            raise DrawingFailed("it is broken")
        for name, attempt in attempts.items():  # cancels come while a step is on the device
            cancel_after = asked[name].cancel_after
            if cancel_after is not None and engine.now >= asked[name].at + cancel_after:
                attempt.lose()

    engine.before_step = device
    waiting = sorted(asked, key=lambda name: asked[name].at)
    while waiting or scene.scheduler.turn():
        while waiting and asked[waiting[0]].at <= engine.now:
            name = waiting.pop(0)
            request = asked[name]
            attempts[name] = scene.add(
                name, steps=request.steps, size=request.size, priority=request.priority, crashes=int(request.suspect)
            )
        if leave_at is not None and engine.now >= leave_at:
            scene.scheduler.leave_by(leave_at)
        if not scene.scheduler.turn():
            engine.now += 1.0
        assert engine.now < 20_000
    heard = scene.heard
    ended = [prompt for prompt, _, _ in heard.ends]
    unfinished = [attempt.parameters.prompt for attempt in scene.scheduler.unfinished()]
    assert sorted(ended + unfinished) == sorted(asked)
    assert not unfinished or leave_at is not None
    for prompt, outcome, reason in heard.ends:
        request = asked[prompt]
        taken = [step for name, step in heard.steps if name == prompt]
        if outcome == "drawn":
            assert taken[-1] == request.steps
            assert request.breaks_at is None or request.breaks_at >= request.steps
        elif outcome == "failed":
            assert reason == "it is broken" or "not enough memory" in reason
            assert reason != "it is broken" or request.breaks_at is not None
        elif outcome == "lost":
            assert request.cancel_after is not None
        else:
            assert leave_at is not None


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    long_steps=st.integers(20, 80),
    longs=st.integers(1, 4),
    short_steps=st.integers(1, 8),
    growth=st.floats(0, 1.5),
    arrives_after=st.integers(0, 40),
)
def test_no_drawing_holds_a_shorter_one_up_for_longer_than_it_takes_alone(
    long_steps: int, longs: int, short_steps: int, growth: float, arrives_after: int
) -> None:
    def step_s(images: int) -> float:
        return 1.0 + growth * (images - 1)

    scene = Scene(PlayingEngine(step_s), max_images=4)
    for _ in range(4):  # it knows its device
        scene.add("warm-up", steps=12)
    scene.play()
    for number in range(longs):
        scene.add(f"long {number}", steps=long_steps)
    scene.play(arrives_after)
    arrived_at = scene.engine.now
    scene.add("short", steps=short_steps)
    scene.play()
    waited_s = scene.heard.ended_at["short"] - arrived_at
    # Each of the long ones before it, one after the other if need be, and its own steps in a batch.
    assert waited_s <= (longs * long_steps + 2 + short_steps) * 1.0 * max(1.0, step_s(4) / 4) + short_steps * step_s(4)


def test_of_a_hundred_requests_the_bad_ones_alone_go_wrong() -> None:
    cancelled = {f"{number}" for number in range(0, 100, 5)}
    broken = {f"{number}" for number in range(1, 100, 20)}
    greedy = {f"{number}" for number in (2, 42, 82)}

    def device(plays: list[Play]) -> None:
        prompts = {play.parameters.prompt for play in plays}
        if prompts & greedy:
            raise OutOfMemory("no room")
        if any(play.parameters.prompt in broken and play.steps_done == 3 for play in plays):
            raise DrawingFailed("broken")
        for attempt in attempts:
            if attempt.parameters.prompt in cancelled & prompts and attempt.steps_done == 2:
                attempt.lose()

    scene = Scene(PlayingEngine(lambda images: 1.0 + 0.1 * images, before_step=device))
    attempts = [scene.add(f"{number}", steps=4 + number % 9) for number in range(100)]
    scene.play()
    assert set(scene.heard.of("lost")) == cancelled
    assert set(scene.heard.of("failed")) == broken | greedy
    assert len(scene.heard.of("drawn")) == 72
