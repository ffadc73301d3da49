"""The main memory of a whole service at rest, by part.

    python -m bench.memory [--write]

`darkroom up` with the pocket model, after some requests and with no worker left. PSS is what a part has for itself plus
its share of what it shares with others; RSS counts shared pages in full. Linux only.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from bench.command import CommandLine, publish
from bench.json_http import get_json, post_json
from bench.report import machine
from bench.whole_service import NAME, wait_for_warm_parent, whole_service
from tests.conftest import REPOSITORY
from tests.support.eventually import eventually

FOLDER = REPOSITORY / "models" / "pocket"
# A word of the command line, or the name of the program, and the part that the process belongs to.
PARTS = {
    "warm-parent": "warm parent (torch, diffusers and transformers imported)",
    "api": "API (gunicorn's two processes)",
    "courier": "courier",
    "up": "`darkroom up` itself",
    "weed": "S3 server (SeaweedFS)",
    "postgres": "Postgres (all processes)",
}


def by_part() -> tuple[Counter[str], Counter[str]]:
    """PSS and RSS of the processes below this one, in bytes."""
    pss: Counter[str] = Counter()
    rss: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        try:
            words, memory = [process.name(), *process.cmdline()], process.memory_full_info()
        except psutil.Error:
            continue
        part = next((part for word, part in PARTS.items() if word in words), f"other: {' '.join(words)[:60]}")
        pss[part] += memory.pss
        rss[part] += memory.rss
    return pss, rss


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--requests", 5, quick=1)
    options.size("--rest-s", 10.0, quick=0.5, explanation="before it is looked at")
    asked = options.read()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        log = Path(name) / "log"
        with whole_service(FOLDER, dtype="float32", side=128, log=log, options=("--idle-exit", "1")) as address:
            wait_for_warm_parent(log)
            for seed in range(asked.requests):
                body = {"model": NAME, "input": {"prompt": "a red circle", "seed": seed}}
                assert post_json(f"{address}/v1/predictions", body, Prefer="wait=60")["status"] == "succeeded"
            eventually(lambda: not get_json(f"{address}/v1/status")["workers"], 60)
            time.sleep(asked.rest_s)
            pss, rss = by_part()
    lines = ["| part | PSS, MB | RSS, MB |", "|---|---:|---:|"]
    lines += [f"| {part} | {pss[part] / 1e6:.0f} | {rss[part] / 1e6:.0f} |" for part, _ in pss.most_common()]
    lines += [f"| *together* | {pss.total() / 1e6:.0f} | |"]
    publish("memory", "\n".join(lines), before, write=asked.write)


if __name__ == "__main__":
    main()
