"""How many of torch's threads a worker should use on the CPU: one for each core, or one less.

    python -m bench.cpu_threads [--folder models/pocket] [--rounds 7]

One drawing and a batch of four (128², 8 steps, the pocket model), with each number of threads in turn, first with
nothing else on the machine and then beside as many busy loops as `--busy` says. Figures are medians of the rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from bench.command import CommandLine
from bench.report import machine
from storage.catalog import Model
from storage.predictions.parameters import Parameters
from worker.engine import load_engine

SIDE, STEPS = 128, 8
BATCHES = (1, 4)


def seconds_for(engine: Any, batch: int) -> float:
    began = time.perf_counter()
    drawings = [engine.begin(Parameters("a red circle", SIDE, SIDE, STEPS, 0.0, seed)) for seed in range(batch)]
    for _ in range(STEPS):
        engine.step(drawings, lambda: None)
    for drawing in drawings:
        engine.decode(drawing)()
    return time.perf_counter() - began


def measure(engine: Any, threads: Sequence[int], rounds: int) -> dict[tuple[int, int], float]:
    """By the number of threads and the batch: the median."""
    found: dict[tuple[int, int], list[float]] = {(number, batch): [] for number in threads for batch in BATCHES}
    for turn in range(rounds):
        for number in threads if turn % 2 else reversed(threads):
            torch.set_num_threads(number)
            for batch in BATCHES:
                found[number, batch].append(seconds_for(engine, batch))
    return {key: statistics.median(values) for key, values in found.items()}


def main() -> None:
    options = CommandLine(__doc__, writes=False)
    options.add_argument("--folder", type=Path, default=Path("models/pocket"))
    options.size("--rounds", 7, quick=1)
    options.size("--busy", "0,1", quick="0", explanation="numbers of busy loops, with commas between them")
    asked = options.read()
    before = machine()
    engine = load_engine(Model(name="bench/threads", source=str(asked.folder), dtype="float32"), device="cpu")
    cores = os.cpu_count() or 1
    threads = sorted({1, max(1, cores - 1), cores})
    for batch in BATCHES:
        seconds_for(engine, batch)
    print("| busy loops | threads | one drawing, ms | a batch of four, ms |\n|---|---|---|---|", flush=True)
    for busy in (int(number) for number in asked.busy.split(",")):
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        psutil.cpu_percent()
        try:
            found = measure(engine, threads, asked.rounds)
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
        for number in threads:
            print(f"| {busy} | {number} | {found[number, 1] * 1000:.0f} | {found[number, 4] * 1000:.0f} |", flush=True)
        print(f"  (the CPU was {psutil.cpu_percent():.0f} % busy meanwhile)", flush=True)
    print(before)


if __name__ == "__main__":
    main()
