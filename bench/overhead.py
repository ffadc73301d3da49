"""What Darkroom adds to a picture: the whole service beside the same drawing in a script that does nothing else.

    python -m bench.overhead [--rounds 60] [--write]

The pocket model, an idle queue, a worker that has loaded it. In each round, one after the other: a POST with
`Prefer: wait` to the whole service; the same prompt and seed with diffusers' own pipeline in a running Python process,
PNG file included (bench/peers/pocket.py); and the upload of the service's PNG file to the same S3 server. What is left
of the first without the other two is what accepting, queueing, claiming, committing and answering take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO

import urllib3

from bench.celery_stack import PEERS
from bench.command import CommandLine, own_servers, publish
from bench.json_http import post_json
from bench.report import machine
from bench.whole_service import NAME, wait_for_warm_parent, whole_service
from storage.s3.bucket import Bucket, ensure_bucket
from tests.conftest import REPOSITORY, TEMPLATE
from tests.support.serving import environment_of

FOLDER = REPOSITORY / "models" / "pocket"
SIDE = 128
PROMPT = "a red circle"
PLAIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pocket import draw, load
pipeline = load()
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    draw(pipeline, [(sys.argv[2], int(line))])
    print(time.perf_counter() - began, flush=True)
"""


class PlainScript:
    """A process that has loaded the model with diffusers, and draws when it is told to."""

    def __init__(self, asks: IO[str], answers: IO[str]) -> None:
        self._asks, self._answers = asks, answers
        self._answer()

    def draw(self, seed: int) -> float:
        """Seconds."""
        print(seed, file=self._asks, flush=True)
        return float(self._answer())

    def _answer(self) -> str:
        line = self._answers.readline()
        if not line:
            raise SystemExit("the plain script has ended")
        return line


@contextmanager
def plain_script() -> Iterator[PlainScript]:
    process = subprocess.Popen(
        [sys.executable, "-c", PLAIN, str(PEERS), PROMPT],
        env=os.environ | {"FOLDER": str(FOLDER), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        yield PlainScript(process.stdin, process.stdout)
    finally:
        process.kill()
        process.communicate()


def service_s(address: str, seed: int) -> tuple[float, bytes]:
    """How long a client waits for a picture, and the picture's file."""
    asked = {"model": NAME, "input": {"prompt": PROMPT, "seed": seed, "cache": False}}
    began = time.perf_counter()
    answer = post_json(f"{address}/v1/predictions", asked, Prefer="wait=60")
    took_s = time.perf_counter() - began
    if answer["status"] != "succeeded":
        raise SystemExit(json.dumps(answer))
    return took_s, urllib3.request("GET", answer["output"][0]).data


def upload_s(bucket: Bucket, prefix: str, seed: int, file: bytes) -> float:
    began = time.perf_counter()
    bucket.put(f"{prefix}/bench-overhead/{seed}.png", file, "image/png")
    return time.perf_counter() - began


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--rounds", 60, quick=2)
    options.size("--warm-up", 5, quick=1, explanation="rounds that don't count")
    asked = options.read()
    before = machine()
    rows: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name, own_servers() as servers:
        settings = servers.settings_for(TEMPLATE)
        bucket = Bucket(settings)
        ensure_bucket(settings)
        log = Path(name) / "log"
        own = {key: value for key, value in environment_of(settings).items() if key not in ("PUBLIC_URL", "MODELS")}
        with (
            whole_service(FOLDER, dtype="float32", side=SIDE, log=log, env=own) as address,
            plain_script() as script,
        ):
            wait_for_warm_parent(log)
            for seed in range(asked.warm_up + asked.rounds):
                whole, file = service_s(address, seed)
                rows.append((whole, script.draw(seed), upload_s(bucket, settings.s3_prefix, seed, file)))
    publish("overhead", table(rows[asked.warm_up :]), before, write=asked.write)


def table(rows: list[tuple[float, float, float]]) -> str:
    """Markdown; the last line is the median of what is left in each round."""
    whole, plain, upload = (1000 * median(each) for each in zip(*rows, strict=True))
    left = 1000 * median(one - two - three for one, two, three in rows)
    lines = ["| median of rounds | ms |", "|---|---:|"]
    lines += [f"| the whole service, from the POST to the answer | {whole:.1f} |"]
    lines += [f"| the same drawing in a plain diffusers script, PNG file included | {plain:.1f} |"]
    lines += [f"| the upload of the file | {upload:.1f} |"]
    lines += [f"| *what Darkroom adds: the first without the other two* | {left:.1f} |"]
    return "\n".join(lines) + f"\n\n{len(rows)} rounds, one after the other."


if __name__ == "__main__":
    main()
