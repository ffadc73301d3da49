"""Tells a device's errors apart: out of memory (draw less at once) and device lost (only a new process helps)."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from worker.engine.interface import DeviceLost, OutOfMemory

P = ParamSpec("P")
T = TypeVar("T")

# Metal and main memory: torch has no exception type of its own for these.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


def told_apart(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that it raises OutOfMemory and DeviceLost instead of torch's errors.

    OutOfMemory is raised after the failed call's tensors are freed. Torch's error is not chained to it, because its
    traceback would keep them alive.
    """

    @wraps(call)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            reason = str(error)
        except torch.AcceleratorError as error:
            raise DeviceLost(str(error).partition("\n")[0]) from error
        except RuntimeError as error:
            if not any(words in str(error) for words in OUT_OF_MEMORY):
                raise
            reason = str(error)
        free_unused()
        raise OutOfMemory(reason.partition("\n")[0])

    return checked


def free_unused() -> None:
    """Return memory that torch caches to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
