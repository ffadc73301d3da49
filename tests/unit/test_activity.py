"""Percentiles out of buckets, and sums of counts."""

from __future__ import annotations

import math
import random

import pytest

from storage.operator.activity import add, percentile


def buckets_of(seconds: list[float], kind: str = "d") -> dict[str, int]:
    """As `darkroom_bucket_key` counts them."""
    return add({f"{kind}{math.floor(10 * math.log10(each))}": 1} for each in seconds)


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("spread", [0.1, 1.0, 2.0])
def test_a_percentile_is_right_to_a_quarter(share: float, spread: float) -> None:
    source = random.Random(7)
    seconds = sorted(math.exp(source.gauss(0.5, spread)) for _ in range(5000))
    exact = seconds[int(share * len(seconds))]
    assert percentile(buckets_of(seconds), "d", share) == pytest.approx(exact, rel=0.25)


def test_each_kind_has_its_own_and_without_any_there_is_none() -> None:
    counts = buckets_of([2.0], "q") | buckets_of([200.0], "d") | {"delivered": 9, "code 200": 4}
    assert percentile(counts, "q", 1.0) == pytest.approx(2.0, rel=0.26)
    assert percentile(counts, "d", 1.0) == pytest.approx(200.0, rel=0.26)
    assert percentile(counts, "l", 0.5) is None
    assert percentile({}, "d", 0.5) is None


def test_counts_are_added_name_by_name() -> None:
    assert add([{"a": 1, "b": 2}, {}, {"b": 3}]) == {"a": 1, "b": 5}
