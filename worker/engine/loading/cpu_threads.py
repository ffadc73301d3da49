"""How many threads torch uses on the CPU."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of this container, in cgroup v2: "200000 100000" are two cores
SET_BY_THE_OPERATOR = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # torch reads them by itself


def limit_threads(env: Mapping[str, str] | None = None) -> None:
    """Leave a core to everything else on this machine, unless the operator has chosen the number of threads.

    After each operation, torch's threads wait for the slowest one, and keep their cores busy meanwhile. So one busy
    process beside as many threads as there are cores makes a drawing many times slower (`bench/cpu_threads.py`).
    """
    import torch

    if not any(name in (os.environ if env is None else env) for name in SET_BY_THE_OPERATOR):
        torch.set_num_threads(max(1, usable_cores() - 1))


def usable_cores(quota: Path = QUOTA) -> int:
    """The cores that this process may use: of the machine, by its affinity, and by the limit of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text().split()
        return min(cores, max(1, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return cores
