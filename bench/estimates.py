"""How far the estimated starts in `events` are off, over a mixed load: steps, outputs, sizes, cold starts.

    python -m bench.estimates [--rounds 3] [--predictions 24]

A real worker process with the pocket model on a real Postgres. It first draws some of each kind, so that its costs are
known. Then each round begins cold: predictions come while no worker runs, one is started, and more come while it draws.
At each submit the estimate is read as the API reads it, and compared with the moment of the claim.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from api.settings import ApiSettings
from bench.command import CommandLine, own_servers, publish
from bench.report import machine
from storage.catalog import Model, load_catalog
from storage.postgres.database import Connection, connect
from storage.predictions.parameters import Parameters
from storage.predictions.submit import Submission, submit
from storage.workers.queue_state import read_queue_state
from tests.conftest import REPOSITORY, TEMPLATE
from tests.support.serving import environment_of, stop

CATALOG = f"""
[models."bench/pocket"]
source = "{REPOSITORY / "models" / "pocket"}"
dtype = "float32"
defaults = {{ width = 128, height = 128, num_inference_steps = 8 }}
limits = {{ min_side = 64, max_side = 256, multiple_of = 16, max_steps = 50 }}
"""
KINDS = [
    Parameters("a red circle", side, side, num_inference_steps=steps, guidance_scale=0.0, seed=1, num_outputs=outputs)
    for side in (128, 192, 256)
    for steps, outputs in ((8, 1), (8, 4), (25, 1), (50, 4))
]
# Sooner than this it begins at once, and a share of nearly nothing says nothing.
AT_ONCE_S = 1.0
GIVE_UP_AFTER_S = 300.0


@dataclass(frozen=True)
class Told:
    """What was estimated for a prediction when it was submitted."""

    prediction_id: str
    at: float  # seconds since the epoch
    estimate_s: float | None
    is_cold: bool  # no worker was ready


def replay(settings: ApiSettings, folder: Path, *, rounds: int, predictions: int, seed: int) -> str:
    chance = random.Random(seed)
    catalog = folder / "models.toml"
    catalog.write_text(CATALOG)
    model = load_catalog(catalog).models["bench/pocket"]
    environment = environment_of(settings) | {"MODELS": str(catalog)}
    told: list[Told] = []
    with connect(settings.database_url, application_name="bench") as conn:
        first = start_worker(environment)
        try:
            submit_and_ask(conn, model, KINDS)
            wait_until_drawn(conn)
        finally:
            stop([first])
        for _ in range(rounds):
            cold = [chance.choice(KINDS) for _ in range(predictions // 3)]
            told += submit_and_ask(conn, model, cold)
            worker = start_worker(environment)
            try:
                wait_until_ready(conn)
                for _ in range(predictions - len(cold)):
                    time.sleep(chance.uniform(0.0, 1.0))
                    told += submit_and_ask(conn, model, [chance.choice(KINDS)])
                wait_until_drawn(conn)
            finally:
                stop([worker])
        return compare(conn, told)


def start_worker(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cli.main", "worker", "--model", "bench/pocket"]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment | {"HF_HUB_OFFLINE": "1"}, stdin=subprocess.DEVNULL
    )


def submit_and_ask(conn: Connection, model: Model, several: list[Parameters]) -> list[Told]:
    told = []
    for asked in several:
        parameters = replace(asked, seed=time.monotonic_ns() % 2**32)
        row = submit(
            conn, Submission(model.name, model.version, model.queue_name, {}, parameters.to_json(), deadline_s=3600)
        )
        state = read_queue_state(conn, model.name, version=model.version, max_images=model.max_batch)
        place = state.place_of(row["id"])
        estimate_s = 0.0 if place is None else state.seconds_until_start(place)
        told.append(Told(row["id"], time.time(), estimate_s, is_cold=state.ready_workers == 0))
    return told


def wait_until_ready(conn: Connection) -> None:
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    while conn.execute("SELECT 1 FROM workers WHERE state IN ('idle', 'drawing')").fetchone() is None:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"the worker was not ready within {GIVE_UP_AFTER_S:g} s")
        time.sleep(0.1)


def wait_until_drawn(conn: Connection) -> None:
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    while conn.execute("SELECT 1 FROM predictions WHERE completed_at IS NULL LIMIT 1").fetchone() is not None:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not everything was drawn within {GIVE_UP_AFTER_S:g} s")
        time.sleep(0.2)


def compare(conn: Connection, told: list[Told]) -> str:
    rows = conn.execute("SELECT id, extract(epoch FROM started_at)::float AS at FROM predictions").fetchall()
    began = {row["id"]: row["at"] for row in rows}
    waited = [(each, began[each.prediction_id] - each.at) for each in told]
    late = [(each, actual_s) for each, actual_s in waited if actual_s >= AT_ONCE_S and each.estimate_s is not None]
    lines = [
        f"{len(told)} predictions, of which {sum(each.estimate_s is None for each in told)} had no estimate; those and "
        f"the ones that began within {AT_ONCE_S:g} s are left out ({len(told) - len(late)} together).",
        "",
        "| | predictions | actual wait, median | error, median | error, 90 % below | estimate / actual, median |",
        "|---|---|---|---|---|---|",
    ]
    for name, some in (
        ("all", late),
        ("told while no worker was ready", [each for each in late if each[0].is_cold]),
        ("told while one was drawing", [each for each in late if not each[0].is_cold]),
    ):
        if len(some) < 2:
            continue
        errors = sorted(abs((told_.estimate_s or 0.0) - actual_s) / actual_s for told_, actual_s in some)
        ratios = [(told_.estimate_s or 0.0) / actual_s for told_, actual_s in some]
        lines.append(
            f"| {name} | {len(some)} | {statistics.median(actual for _, actual in some):.1f} s |"
            f" {statistics.median(errors):.2f} | {statistics.quantiles(errors, n=10)[-1]:.2f} |"
            f" {statistics.median(ratios):.2f} |"
        )
    lines += ["", "The error is |estimate − actual| / actual."]
    return "\n".join(lines)


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--rounds", 3, quick=1)
    options.size("--predictions", 24, quick=3)
    options.add_argument("--seed", type=int, default=1)
    asked = options.read()
    before = machine()
    with own_servers() as servers, tempfile.TemporaryDirectory() as folder:
        settings = servers.settings_for(TEMPLATE)
        found = replay(settings, Path(folder), rounds=asked.rounds, predictions=asked.predictions, seed=asked.seed)
    publish("estimates", found, before, write=asked.write)


if __name__ == "__main__":
    main()
