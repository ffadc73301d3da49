"""Marks what the device works on: if the device hangs or is lost, one of these predictions may be the cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from worker.attempts.attempt import Attempt
from worker.engine import DeviceLost


@contextmanager
def on_device(attempts: Sequence[Attempt], phase: str) -> Iterator[None]:
    """Mark the attempts while the block runs. When the device is lost they stay marked, and are drawn alone next.

    The block's time counts as that phase of each attempt's trace.
    """
    for attempt in attempts:
        attempt.on_device = True
    try:
        with ExitStack() as phases:
            for attempt in attempts:
                phases.enter_context(attempt.spans.phase(phase))
            yield
    except DeviceLost:
        raise
    except BaseException:
        _unmark(attempts)
        raise
    _unmark(attempts)


def _unmark(attempts: Sequence[Attempt]) -> None:
    for attempt in attempts:
        attempt.on_device = False
