"""The worker of bench.pickup: one that draws nothing, and tells on its stdout when it begins each drawing.

    python -m bench.pickup_worker     with DATABASE_URL, S3_… and so on in the environment

A line is the seed of the prediction and the time (seconds since 1970).
"""

from __future__ import annotations

import time
from typing import Any

from storage.catalog import Blank, Model
from storage.predictions.parameters import Parameters
from worker.engine.blank import BlankEngine
from worker.process import WorkerProcess
from worker.settings import WorkerSettings

MODEL = Model(name="darkroom/blank", engine="blank", version="1")


class TellingEngine(BlankEngine):
    """Prints when it begins."""

    def begin(self, parameters: Parameters, pictures: Any = None) -> Any:
        print(parameters.seed, time.time(), flush=True)
        return super().begin(parameters, pictures)


def main() -> None:
    WorkerProcess(WorkerSettings(), MODEL, idle_exit_s=None, load=lambda: TellingEngine(Blank())).run()


if __name__ == "__main__":
    main()
