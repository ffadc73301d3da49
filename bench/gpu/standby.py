"""Two models on one device: the whole service, whose workers stand by when they are idle.

    python -m bench.gpu.standby --folder FOLDER [--side 512] [--dtype bfloat16] [--budget-s 150] [--json FILE]

FOLDER is a diffusers folder, such as the one that `python -m bench.gpu --keep FOLDER` leaves. `darkroom up` serves it
under two names, in one place, with a warm parent and a short STANDBY_AFTER_S. Measured through the API are: from zero
to the first picture of each model, waking, switching from one model to the other, and requests that come while the
worker goes to standby. Every prediction has to succeed. The memory of the device is what `nvidia-smi` says.

No repetition begins when the budget is used up; what was left out is named. `--json` adds to the figures of
`python -m bench.gpu --json`, also if a prediction failed.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from shutil import which
from typing import Any

import psutil

from bench.command import CommandLine
from bench.gpu.table import Table
from bench.json_http import get_json, post_json
from bench.whole_service import whole_service

FIRST, SECOND = "bench/first", "bench/second"
WARM = "workers are forked from now on"
NOT_WARM = "workers can't be forked"
LOOK_EVERY_S = 0.02
READ_BYTES = 1 << 24
RACES_WITHIN_S = 2.0  # around STANDBY_AFTER_S


class OutOfTime(Exception):
    """The budget is used up."""


class Asking:
    """Requests to the service, one after the other. Raises OutOfTime, and SystemExit if a prediction fails."""

    def __init__(self, address: str, side: int, budget_ends_at: float) -> None:
        self._address = address
        self._side = side
        self._budget_ends_at = budget_ends_at
        self._seeds = count(1)
        self.drawn = 0

    def draw(self, model: str) -> tuple[float, dict[str, Any]]:
        """How long a client waits for a picture, and the prediction's metrics."""
        self.check_budget()
        given = {"prompt": "a red circle", "width": self._side, "height": self._side, "seed": next(self._seeds)}
        began = time.perf_counter()
        prediction = post_json(f"{self._address}/v1/predictions", {"model": model, "input": given}, Prefer="wait=10")
        while prediction["status"] in ("starting", "processing"):
            self.check_budget()
            time.sleep(LOOK_EVERY_S)
            prediction = get_json(prediction["urls"]["get"])
        wall_s = time.perf_counter() - began
        if prediction["status"] != "succeeded":
            raise SystemExit(f"{model}: {prediction['status']}: {prediction['error']}")
        self.drawn += 1
        return wall_s, prediction["metrics"]

    def wait_for_standby(self, *models: str) -> None:
        """Until each of these models has a worker that stands by, and no worker does anything else."""
        while self._states() != [(model, "standby") for model in sorted(models)]:
            self.check_budget()
            time.sleep(LOOK_EVERY_S)

    def check_budget(self) -> None:
        if time.monotonic() > self._budget_ends_at:
            raise OutOfTime

    def _states(self) -> list[tuple[str, str]]:
        workers = get_json(f"{self._address}/v1/status")["workers"]
        return sorted((worker["model"], worker["state"]) for worker in workers)


class Rows:
    """Adds to the table, and prints each row at once."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def seconds(self, what: str, wall_s: float, drawing_s: float | None = None) -> None:
        self._table.figures[f"{what}.s"] = wall_s
        if drawing_s is None:
            self._add([what, f"{wall_s:.3f} s", "", ""])
            return
        self._table.figures[f"{what}.predict_s"] = drawing_s
        self._add([what, f"{wall_s:.3f} s", f"{drawing_s:.3f} s", f"{wall_s - drawing_s:.3f} s"])

    def memory(self, what: str, size_bytes: float | None) -> None:
        if size_bytes is not None:
            self._table.figures[f"{what}.bytes"] = size_bytes
        self._add([what, "no GPU" if size_bytes is None else f"{size_bytes / 1e9:.2f} GB", "", ""])

    def note(self, text: str) -> None:
        self._table.notes.append(text)
        print(text, flush=True)

    def _add(self, row: list[str]) -> None:
        self._table.rows.append(row)
        print(row, flush=True)


def measure(asking: Asking, rows: Rows, asked: Any, device_before: int | None) -> None:
    """All of it, in the order of how much it is needed: the budget may end in between."""
    host_before = psutil.virtual_memory().available
    _from_zero(asking, rows, FIRST, "from zero to the first picture, forked, weights in memory")
    began = time.perf_counter()
    asking.wait_for_standby(FIRST)
    rows.seconds("until it stands by, the first time (it copies the weights)", time.perf_counter() - began)
    _from_zero(asking, rows, SECOND, "from zero to the first picture, while the other model stands by")
    asking.wait_for_standby(FIRST, SECOND)
    rows.memory("device memory before the service", device_before)
    rows.memory("device memory while both stand by", device_memory_used())
    rows.memory("main memory that both take", host_before - psutil.virtual_memory().available)
    _waking(asking, rows, asked.repeats)
    _switching(asking, rows, asked.repeats)
    _races(asking, rows, asked.races, asked.standby_after_s)
    rows.memory("device memory with one awake", device_memory_used())


def _from_zero(asking: Asking, rows: Rows, model: str, what: str) -> None:
    wall_s, metrics = asking.draw(model)
    rows.seconds(what, wall_s, metrics["predict_time"])
    rows.note(f"Its metrics: `{json.dumps(metrics)}`")


def _waking(asking: Asking, rows: Rows, repeats: int) -> None:
    walls, drawn = [], []
    for number in range(2 * repeats):
        asking.wait_for_standby(FIRST, SECOND)
        wall_s, metrics = asking.draw((FIRST, SECOND)[number % 2])
        rows.seconds(f"woken, {number + 1}", wall_s, metrics["predict_time"])
        walls.append(wall_s)
        drawn.append(metrics["predict_time"])
    rows.seconds(f"woken, median of {2 * repeats}", statistics.median(walls), statistics.median(drawn))


def _switching(asking: Asking, rows: Rows, repeats: int) -> None:
    """Each model is asked for as soon as the other one's picture is there, so that one is awake."""
    walls, drawn, awake, awake_drawn = [], [], [], []
    asking.draw(FIRST)
    for number in range(2 * repeats):
        wall_s, metrics = asking.draw((SECOND, FIRST)[number % 2])
        rows.seconds(f"switched, {number + 1}", wall_s, metrics["predict_time"])
        walls.append(wall_s)
        drawn.append(metrics["predict_time"])
    rows.seconds(f"switched, median of {2 * repeats}", statistics.median(walls), statistics.median(drawn))
    for _ in range(2 * repeats):
        wall_s, metrics = asking.draw(FIRST)
        awake.append(wall_s)
        awake_drawn.append(metrics["predict_time"])
    rows.seconds(f"awake, median of {2 * repeats}", statistics.median(awake), statistics.median(awake_drawn))


def _races(asking: Asking, rows: Rows, races: int, standby_after_s: float) -> None:
    walls = []
    for _ in range(races):
        time.sleep(max(0.0, standby_after_s + random.uniform(-0.5, 0.5) * RACES_WITHIN_S))
        walls.append(asking.draw(FIRST)[0])
    if walls:
        rows.seconds(f"{races} requests around the moment of going to standby, median", statistics.median(walls))
        rows.seconds(f"{races} requests around the moment of going to standby, longest", max(walls))


def device_memory_used() -> int | None:
    """Of all GPUs together, by all processes, in bytes; None without a GPU."""
    if which("nvidia-smi") is None:
        return None
    words = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=20)
    if told.returncode:
        return None
    return sum(int(line) for line in told.stdout.split()) * 1024 * 1024


def read_into_page_cache(folder: Path) -> None:
    for file in sorted(folder.rglob("*.safetensors")):
        with file.open("rb", buffering=0) as weights:
            while weights.read(READ_BYTES):
                pass


def wait_until_warm(log: Path, budget_ends_at: float) -> Iterator[str]:
    """Yields a sentence for the report if there is something to say."""
    while WARM not in (told := log.read_text()):
        if NOT_WARM in told:
            yield "Workers were not forked here: " + told.partition(NOT_WARM)[2].partition(": ")[2].partition("\n")[0]
            return
        if time.monotonic() > budget_ends_at:
            raise OutOfTime
        time.sleep(LOOK_EVERY_S)


def main(words: Sequence[str] | None = None) -> None:
    """`words`: the command line, without the program's name."""
    options = CommandLine(__doc__, writes=False, quick=False)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--side", type=int, default=512)
    options.add_argument("--dtype", default="bfloat16")
    options.add_argument("--standby-after-s", type=float, default=1.0)
    options.add_argument("--repeats", type=int, default=3, help="of waking and switching, for each model")
    options.add_argument("--races", type=int, default=10)
    options.add_argument("--budget-s", type=float, default=150.0)
    options.add_argument("--log", type=Path, default=Path(tempfile.gettempdir()) / "dr-bench-gpu-standby.log")
    options.add_argument("--json", type=Path)
    asked = options.read(words)
    began = time.monotonic()
    # The service needs some seconds to end, and predictions that fail late are reported, too.
    budget_ends_at = began + asked.budget_s - min(15.0, asked.budget_s / 4)
    table = Table("Two models on one device", ["what", "measured", "of it drawing (predict_time)", "the rest"])
    rows = Rows(table)
    try:
        _run(asked, rows, budget_ends_at)
    except OutOfTime:
        rows.note(f"The budget of {asked.budget_s:g} s ended here; the rest was left out.")
    except (SystemExit, KeyError, OSError, subprocess.SubprocessError) as error:
        rows.note(f"It broke off: {type(error).__name__}: {error}")
        raise
    finally:
        rows.note(f"It took {time.monotonic() - began:.0f} s.")
        print(table.markdown(), flush=True)
        if asked.json:
            found = json.loads(asked.json.read_text()) if asked.json.exists() else {"sections": {}, "left_out": []}
            found["sections"]["standby"] = table.to_json()
            asked.json.write_text(json.dumps(found, indent=1))


def _run(asked: Any, rows: Rows, budget_ends_at: float) -> None:
    device_before = device_memory_used()
    reading = threading.Thread(target=read_into_page_cache, args=(asked.folder,), daemon=True)
    reading.start()
    with whole_service(
        asked.folder,
        dtype=asked.dtype,
        side=asked.side,
        log=asked.log,
        names=(FIRST, SECOND),
        options=("--workers", "1", "--idle-exit", "3600"),
        env={"STANDBY_AFTER_S": f"{asked.standby_after_s:g}"},
    ) as address:
        for sentence in wait_until_warm(asked.log, budget_ends_at):
            rows.note(sentence)
        reading.join(max(0.0, budget_ends_at - time.monotonic()))
        asking = Asking(address, asked.side, budget_ends_at)
        try:
            measure(asking, rows, asked, device_before)
        finally:
            loaded = asked.log.read_text().count("worker.ready")
            rows.note(f"{asking.drawn} predictions were drawn; workers loaded a model {loaded} times (2 are needed).")


if __name__ == "__main__":
    main()
