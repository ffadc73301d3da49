"""How much of the time the device waits under a backlog, with a bucket that takes 300 ms for every object.

    python -m bench.idle_share [--backlog 200] [--upload-s 0.3]

A whole worker on a real Postgres and a real S3 server. From the first `begin` to the last `decode` of the engine, all
that lies outside begin, step and decode counts as idle; claims, encoding, uploads and commits happen meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from bench.command import CommandLine, own_servers, publish
from bench.report import machine
from storage.catalog import Limits, Model
from storage.postgres.database import connect
from storage.predictions.parameters import Parameters
from storage.predictions.submit import Submission, submit
from storage.s3.bucket import Bucket
from storage.settings import Settings
from tests.conftest import TEMPLATE
from worker.engine import load_engine
from worker.process import WorkerProcess
from worker.settings import WorkerSettings

MODEL = Model(name="bench/pocket", source=str(Path("models/pocket")), dtype="float32", limits=Limits())


class Timed:
    """An engine that notes when the device is at work."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.busy_s = 0.0
        self.first_began = self.last_ended = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return self._timed(found) if name in {"begin", "step", "decode"} else found

    def _timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            began = time.monotonic()
            self.first_began = self.first_began or began
            try:
                return work(*given)
            finally:
                self.last_ended = time.monotonic()
                self.busy_s += self.last_ended - began

        return timed


class SlowBucket(Bucket):
    """A real one that takes longer for every object."""

    def __init__(self, settings: Settings, upload_s: float) -> None:
        super().__init__(settings)
        self._upload_s = upload_s

    def put(self, key: str, body: bytes | IO[bytes], content_type: str) -> None:
        time.sleep(self._upload_s)
        super().put(key, body, content_type)


def measure(settings: WorkerSettings, backlog: int, upload_s: float) -> str:
    engine = Timed(load_engine(MODEL, device=settings.device))
    bucket = SlowBucket(settings, upload_s)
    with connect(settings.database_url, application_name="bench") as conn:
        for seed in range(backlog):
            parameters = Parameters("a red circle", 128, 128, num_inference_steps=8, guidance_scale=0.0, seed=seed)
            submit(conn, Submission(MODEL.name, "1", MODEL.queue_name, {}, parameters.to_json(), deadline_s=3600))
        WorkerProcess(settings, MODEL, idle_exit_s=2.0, load=lambda: engine, bucket=bucket).run()
        done = conn.execute("SELECT count(*) AS n FROM predictions WHERE status = 'succeeded'").fetchone()
    assert done is not None
    wall_s = engine.last_ended - engine.first_began
    return (
        f"{done['n']} of {backlog} drawn in {wall_s:.1f} s ({backlog / wall_s:.1f} a second), each object took"
        f" {1000 * upload_s:.0f} ms to store: idle {100 * (1 - engine.busy_s / wall_s):.2f} % of the time."
    )


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--backlog", 200, quick=3)
    options.size("--upload-s", 0.3, quick=0.1)
    asked = options.read()
    before = machine()
    with own_servers() as servers:
        settings = WorkerSettings(**servers.settings_for(TEMPLATE).model_dump(exclude_unset=True))
        found = measure(settings, asked.backlog, asked.upload_s)
    publish("idle_share", found, before, write=asked.write)


if __name__ == "__main__":
    main()
