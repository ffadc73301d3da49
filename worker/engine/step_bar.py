"""Progress of pipelines that take no callback_on_step_end (PixArt, LongCat): their progress bar reports each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class StepBar:
    """Stands in for the tqdm bar that a pipeline of diffusers makes with `progress_bar(iterable)` or `(total=n)`."""

    def __init__(self, iterable: Iterable[Any] = (), *, on_step: Callable[[int], object]) -> None:
        """`on_step` gets the number of steps taken. If it raises, the pipeline stops without decoding."""
        self._iterable = iterable
        self._on_step = on_step
        self._taken = 0

    def update(self, count: int = 1) -> None:
        self._taken += count
        self._on_step(self._taken)

    def __iter__(self) -> Iterator[Any]:
        for each in self._iterable:
            yield each
            self.update()

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is shown."""

    def set_description(self, text: str) -> None:
        """Nothing is shown."""


@contextmanager
def watching_steps(pipeline: Any, on_step: Callable[[int], object]) -> Iterator[None]:
    """Call `on_step` after each step that the pipeline takes in the block."""

    def progress_bar(iterable: Iterable[Any] | None = None, total: int | None = None) -> StepBar:
        return StepBar(() if iterable is None else iterable, on_step=on_step)

    pipeline.progress_bar = progress_bar  # of this object; its class keeps its own
    try:
        yield
    finally:
        del pipeline.progress_bar
