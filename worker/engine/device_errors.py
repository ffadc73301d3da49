"""Telling apart what a device raises: out of memory (draw less), and lost (only a new process helps)."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from worker.engine.interface import DeviceLost, OutOfMemory

P = ParamSpec("P")
T = TypeVar("T")

# Where torch has no type of its own for it: Metal, and main memory.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


def told_apart(call: Callable[P, T]) -> Callable[P, T]:
    """Have a function raise OutOfMemory and DeviceLost for what torch raises.

    OutOfMemory is raised when the failed call's tensors are gone: a traceback would keep them alive, so the error
    that torch raised is not chained to it.
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
    """Give back what torch keeps for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
