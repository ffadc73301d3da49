"""From zero to the first picture: a worker forked from the warm parent, a new process, and a plain diffusers script.

    python -m bench.cold_start [--rounds 30] [--write]

Two `darkroom up` with the pocket model, one of them without the warm parent, each with no worker when a request comes:
from the POST until a GET, one every 50 ms, shows the picture. The script is a new Python process that loads the same
model with diffusers and writes one PNG of the same size and steps. The three take turns, so that whatever else the
machine does slows each of them as much; a ratio is the median of the ratios of a round. Each round has the weights in
the page cache ("in memory"), and every third a second time, thrown out of it ("on the disk"). Linux only.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.cold_load import set_state
from bench.command import CommandLine, publish
from bench.report import machine
from tests.acceptance.running_up import RunningUp, up
from tests.conftest import REPOSITORY
from tests.support.eventually import eventually
from worker.engine.loading.weights import weight_files

POCKET = REPOSITORY / "models" / "pocket"
STEPS = 8
FORKED, NEW, PLAIN = "forked worker", "new worker process", "plain diffusers script"
CATALOG = f"""
[models."darkroom/pocket"]
source = "{POCKET}"
dtype = "float32"
defaults = {{ width = 128, height = 128, num_inference_steps = {STEPS}, guidance_scale = 0.0 }}
limits = {{ max_pixels = 16384, min_side = 128, max_side = 128, multiple_of = 16 }}
"""
SCRIPT = f"""
import sys
import torch
from diffusers import ZImagePipeline
pipeline = ZImagePipeline.from_pretrained(sys.argv[1], dtype=torch.float32, local_files_only=True)
image = pipeline("a red circle", width=128, height=128, num_inference_steps={STEPS}, guidance_scale=0.0).images[0]
image.save(sys.argv[2])
"""
PHASES = ("process", "imports", "weights", "device", "claim", "first_step", "steps", "decode", "upload")


def first_picture(running: RunningUp, phases: list[dict[str, float]]) -> float:
    """Seconds from the POST to the answer, with no worker before it."""
    eventually(lambda: not running.workers(), 60)
    began = time.monotonic()
    prediction = running.submit("darkroom/pocket")
    running.wait_for_status(prediction, "succeeded", timeout_s=120)
    took_s = time.monotonic() - began
    _, answer = running.request("GET", f"/v1/predictions/{prediction}")
    phases.append(answer["metrics"]["cold_start"])
    return took_s


def plain_script(folder: Path) -> float:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(POCKET), str(folder / "plain.png")], check=True, capture_output=True
    )
    return time.monotonic() - began


def percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def main() -> None:
    parser = CommandLine(__doc__)
    parser.size("--rounds", 30, quick=1)
    asked = parser.read()
    before = machine()
    files = weight_files(POCKET)
    seconds: dict[tuple[str, str], list[float]] = {}
    phases: dict[str, list[dict[str, float]]] = {FORKED: [], NEW: []}
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        Path(name).chmod(0o711)
        folders = [Path(name) / "forked", Path(name) / "new"]
        for folder in folders:
            folder.mkdir()
            (folder / "models.toml").write_text(CATALOG)
        with (
            up(folders[0], "--idle-exit", "0") as forking,
            up(folders[1], "--idle-exit", "0", "--no-warm-parent") as new,
        ):
            eventually(lambda: "workers are forked from now on" in forking.output, 120)
            memory = next(line for line in forking.lines if "workers are forked" in line).partition(": ")[2]
            ways: dict[str, Callable[[list[dict[str, float]]], float]] = {
                FORKED: lambda noted: first_picture(forking, noted),
                NEW: lambda noted: first_picture(new, noted),
                PLAIN: lambda _: plain_script(folders[0]),
            }
            for number in range(asked.rounds):
                for state in ("in memory", "on the disk") if number % 3 == 0 else ("in memory",):
                    for way in sorted(ways, reverse=bool(number % 2)):
                        set_state(files, state)
                        noted = phases.get(way, []) if state == "in memory" else []
                        seconds.setdefault((state, way), []).append(ways[way](noted))
                        print(f"{state}, {way}: {seconds[state, way][-1]:.2f} s", flush=True)
    publish("cold_start", _found(seconds, phases, memory), before, write=asked.write)


def _found(seconds: dict[tuple[str, str], list[float]], phases: dict[str, list[dict[str, float]]], memory: str) -> str:
    lines = [
        f"The warm parent: {memory}.",
        "",
        "| weights | | tries | p50, s | p99, s | of the script's time |",
        "|---|---|---|---|---|---|",
    ]
    for (state, way), took in sorted(seconds.items()):
        ratio = statistics.median(a / b for a, b in zip(took, seconds[state, PLAIN], strict=True))
        p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
        lines.append(f"| {state} | {way} | {len(took)} | {p50:.2f} | {p99:.2f} | {ratio:.2f} |")
    lines += ["", "Medians by phase, in ms, with the weights in memory:", ""]
    lines += [f"| | {' | '.join(PHASES)} |", f"|---|{'---|' * len(PHASES)}"]
    for way, noted in phases.items():
        each = [f"{1000 * statistics.median(one.get(phase, 0.0) for one in noted):.0f}" for phase in PHASES]
        lines.append(f"| {way} | {' | '.join(each)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
