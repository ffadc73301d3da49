"""The states of a prediction, who moves each one next, and the moves that exist.

```
 starting ──claim──▶ processing ──▶ succeeded | failed
   ▲  │                │   │
   │  │                │   └── cancel, deadline ─▶ canceled
   │  └─ cancel, deadline ─▶ canceled;  cache hit ─▶ succeeded;  can't be served ─▶ failed
   └──── lease expired, or handed back ────┘
```
"""

from enum import StrEnum


class PredictionStatus(StrEnum):
    """The words on the wire, which are Replicate's."""

    STARTING = "starting"  # a worker moves it (claim); rescue rings again where the bell was lost
    PROCESSING = "processing"  # its worker moves it; rescue does when the lease is over
    SUCCEEDED = "succeeded"  # final; retention removes its data
    FAILED = "failed"  # likewise
    CANCELED = "canceled"  # likewise; by the client, or by its deadline

    @property
    def is_terminal(self) -> bool:
        """No transition leads out of this state."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[PredictionStatus, frozenset[PredictionStatus]] = {
    PredictionStatus.STARTING: frozenset(
        {
            PredictionStatus.PROCESSING,
            PredictionStatus.SUCCEEDED,
            PredictionStatus.FAILED,
            PredictionStatus.CANCELED,
        }
    ),
    PredictionStatus.PROCESSING: frozenset(
        {
            PredictionStatus.STARTING,
            PredictionStatus.SUCCEEDED,
            PredictionStatus.FAILED,
            PredictionStatus.CANCELED,
        }
    ),
    PredictionStatus.SUCCEEDED: frozenset(),
    PredictionStatus.FAILED: frozenset(),
    PredictionStatus.CANCELED: frozenset(),
}

# A prediction whose worker died this often is given up (rescue counts the crashes).
MAX_CRASHES = 3
# One that was claimed this often is given up too, however its claims ended.
MAX_ATTEMPTS = 20
