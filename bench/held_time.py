"""For how long workers hold their device, and what they do meanwhile."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from storage.postgres.database import connect

LOOK_EVERY_S = 0.05
# A worker is at work from a claim until the result is written. What its own row says can be a heartbeat old.
LOOK = """
    SELECT pid, model, CASE
        WHEN state NOT IN ('idle', 'drawing') THEN state
        WHEN EXISTS (SELECT FROM predictions WHERE status = 'processing' AND model = workers.model) THEN 'at work'
        ELSE 'idle'
    END AS state
    FROM workers
"""


@dataclass
class Stretch:
    """A worker was in one state all the time. Times count from the first look."""

    state: str
    from_s: float
    to_s: float


@dataclass
class HeldTime:
    """For each worker, by its pid and its model: its stretches. It takes for granted one worker a model."""

    workers: dict[tuple[int, str], list[Stretch]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """All states but `standby`."""
        return sum(self.by_state.values()) - self.by_state["standby"]

    @property
    def by_state(self) -> defaultdict[str, float]:
        found: defaultdict[str, float] = defaultdict(float)
        for stretches in self.workers.values():
            for stretch in stretches:
                found[stretch.state] += stretch.to_s - stretch.from_s
        return found

    def timeline(self) -> str:
        lines = []
        for (pid, model), stretches in self.workers.items():
            lines.append(f"worker {pid} of {model}")
            lines += [
                f"  {each.from_s:7.2f} … {each.to_s:7.2f}  {each.to_s - each.from_s:6.2f} s  {each.state}"
                for each in stretches
            ]
        return "\n".join(lines)

    def add(self, pid: int, model: str, state: str, from_s: float, to_s: float) -> None:
        stretches = self.workers.setdefault((pid, model), [])
        if stretches and stretches[-1].state == state and stretches[-1].to_s == from_s:
            stretches[-1].to_s = to_s
        else:
            stretches.append(Stretch(state, from_s, to_s))


@contextmanager
def holding(database_url: str) -> Iterator[HeldTime]:
    """Watches all workers until the end."""
    held, stop = HeldTime(), threading.Event()

    def look() -> None:
        with connect(database_url, application_name="bench") as conn:
            began = time.monotonic()
            before_s = 0.0
            while not stop.wait(LOOK_EVERY_S):
                rows = conn.execute(LOOK).fetchall()
                now_s = time.monotonic() - began
                for row in rows:
                    held.add(row["pid"], row["model"], row["state"], before_s, now_s)
                before_s = now_s

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield held
    finally:
        stop.set()
        thread.join()
