"""The whole service on this device: `darkroom up` with this model, asked as a client asks it.

    python -m bench.gpu.service --folder FOLDER [--sides 512,1024] [--dtype bfloat16] [--count 24] [--json FILE]

FOLDER is a diffusers folder, such as the one that `python -m bench.gpu --keep FOLDER` leaves. Measured are: from zero
to the first picture (the worker's process, imports, weights, drawing, upload), pictures one after the other, and a
backlog. `--json` adds to the figures of `python -m bench.gpu --json`.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.command import CommandLine
from bench.gpu.table import Table
from bench.json_http import get_json, post_json
from bench.whole_service import NAME, whole_service


def post(address: str, side: int, seed: int, *, wait: bool) -> dict[str, Any]:
    asked = {"model": NAME, "input": {"prompt": "a red circle", "width": side, "height": side, "seed": seed}}
    prefer = {"Prefer": "wait=60"} if wait else {}
    accepted: dict[str, Any] = post_json(f"{address}/v1/predictions", asked, **prefer)
    return accepted


def measure(address: str, sides: list[int], count: int) -> Table:
    table = Table("The whole service", ["what", "seconds", "of it drawing (predict_time)", "the rest"])

    def row(what: str, seconds: float, predict_s: float) -> None:
        table.rows.append([what, f"{seconds:.3f}", f"{predict_s:.3f}", f"{seconds - predict_s:.3f}"])
        table.figures |= {f"{what}.s": seconds, f"{what}.predict_s": predict_s}
        print(table.rows[-1], flush=True)

    began = time.perf_counter()
    first = finished(post(address, sides[0], 1, wait=True))
    row(f"from zero to the first picture, {sides[0]}²", time.perf_counter() - began, first["metrics"]["predict_time"])
    table.notes.append(f"Its metrics: `{json.dumps(first['metrics'])}`")
    for side in sides:
        walls, drawn = [], []
        for seed in range(2, 8):
            began = time.perf_counter()
            answer = finished(post(address, side, seed, wait=True))
            walls.append(time.perf_counter() - began)
            drawn.append(answer["metrics"]["predict_time"])
        row(f"one after the other, {side}², median of 6", statistics.median(walls), statistics.median(drawn))
    for side in sides:
        began = time.perf_counter()
        asked = [post(address, side, 100 + seed, wait=False) for seed in range(count)]
        done = [finished(each) for each in asked]
        wall_s = time.perf_counter() - began
        gpu_s = sum(each["metrics"].get("gpu_time", 0.0) for each in done)
        row(f"{count} at once, {side}²: {count / wall_s:.2f} a second", wall_s, gpu_s)
        table.notes.append(
            f"{count} at once, {side}²: the device draws for {gpu_s:.2f} of {wall_s:.2f} s"
            f" (batch sizes {sorted({each['metrics'].get('batch_size') for each in done})})."
        )
    return table


def finished(prediction: dict[str, Any]) -> dict[str, Any]:
    while prediction["status"] in ("starting", "processing"):
        time.sleep(0.02)
        prediction = get_json(prediction["urls"]["get"])
    if prediction["status"] != "succeeded":
        raise SystemExit(f"{prediction['status']}: {prediction['error']}")
    return prediction


def main() -> None:
    options = CommandLine(__doc__, writes=False, quick=False)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--sides", default="512,1024")
    options.add_argument("--dtype", default="bfloat16")
    options.add_argument("--count", type=int, default=24)
    options.add_argument("--log", type=Path, default=Path(tempfile.gettempdir()) / "dr-bench-gpu-service.log")
    options.add_argument("--json", type=Path)
    asked = options.read()
    sides = [int(side) for side in asked.sides.split(",")]
    with whole_service(asked.folder, dtype=asked.dtype, side=sides[0], log=asked.log) as address:
        table = measure(address, sides, asked.count)
    print(table.markdown())
    if asked.json:
        found = json.loads(asked.json.read_text()) if asked.json.exists() else {"sections": {}, "left_out": []}
        found["sections"]["service"] = table.to_json()
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
