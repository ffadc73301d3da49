"""The drawing loop, played through with measured times: steps, outputs, sizes, sharing and loading count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.predictions.parameters import Parameters
from storage.workers.queue_forecast import ForecastWorker, Job, seconds_until_starts
from storage.workers.step_costs import Load, StepCost

ONE = Parameters(prompt="a", width=64, height=64, num_inference_steps=10, guidance_scale=0.0, seed=1)
PIXELS = 64 * 64


def costs(*seconds: float) -> dict[Load, StepCost]:
    """What a step of 1, 2, … images of 64 × 64 takes."""
    return {
        Load(images, images * PIXELS): StepCost(images, images * PIXELS, took, None, samples=10)
        for images, took in enumerate(seconds, start=1)
    }


# Two images in one step take as long as two steps: nothing is shared.
ALONE = costs(0.1, 0.2, 0.3, 0.4, 0.5)
# A second and a third image cost a tenth each.
SHARED = costs(0.1, 0.11, 0.12, 0.13)


def starts(
    *waiting: Parameters, workers: int = 1, ready_in_s: float = 0.0, known: dict[Load, StepCost] = ALONE,
    joins_midway: bool = True, max_images: int = 8,
) -> list[float | None]:  # fmt: skip
    return seconds_until_starts(
        [Job.of(each) for each in waiting],
        [ForecastWorker(ready_in_s, known, joins_midway) for _ in range(workers)],
        max_images=max_images,
    )


def test_steps_outputs_guidance_and_pixels_of_those_before_count() -> None:
    for before, seconds in (
        (ONE, 1.0),
        (replace(ONE, num_inference_steps=50), 5.0),
        (replace(ONE, num_outputs=4), 4.0),
        (replace(ONE, num_inference_steps=50, num_outputs=4), 20.0),
        (replace(ONE, guidance_scale=3.0), 2.0),
        (replace(ONE, width=128), 2.0),
        (replace(ONE, width=512), 8.0),  # beyond what was measured: in proportion
    ):
        assert starts(before, ONE) == [0.0, pytest.approx(seconds)]


def test_drawings_that_share_steps_start_together_up_to_the_most_images() -> None:
    assert starts(ONE, ONE, ONE, ONE, known=SHARED, max_images=3) == [0.0, 0.0, 0.0, pytest.approx(1.2)]


def test_a_shorter_one_makes_room_when_it_ends() -> None:
    long = replace(ONE, num_inference_steps=20)
    assert starts(long, ONE, ONE, known=SHARED, max_images=2) == [0.0, 0.0, pytest.approx(1.1)]


def test_an_engine_that_runs_batches_to_their_end_draws_only_equal_ones_together() -> None:
    other = replace(ONE, num_inference_steps=5)
    assert starts(ONE, ONE, other, known=SHARED, joins_midway=False) == [0.0, 0.0, pytest.approx(1.1)]
    assert starts(ONE, other, ONE, known=SHARED, joins_midway=False) == [0.0, pytest.approx(1.0), pytest.approx(1.5)]


def test_workers_share_the_queue() -> None:
    assert starts(ONE, ONE, ONE, ONE, workers=2) == [0.0, 0.0, pytest.approx(1.0), pytest.approx(1.0)]


def test_a_worker_that_loads_starts_when_it_is_ready() -> None:
    assert starts(ONE, ONE, ready_in_s=30.0) == [30.0, pytest.approx(31.0)]


def test_what_is_drawn_now_counts_with_the_steps_that_are_left() -> None:
    drawn = Job.of(replace(ONE, num_inference_steps=50), steps_done=45)
    worker = ForecastWorker(0.0, ALONE, True, [drawn])
    assert seconds_until_starts([Job.of(ONE)], [worker], max_images=8) == [pytest.approx(0.5)]


def test_what_was_never_measured_is_not_estimated() -> None:
    assert starts(ONE, ONE, ONE, known={}) == [0.0, None, None]  # an idle worker begins at once, whatever it takes
    assert starts(ONE, workers=0) == [None]
