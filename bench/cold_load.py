"""From nothing to an engine that can draw, with weights that are not in memory: read ahead, and not.

    python -m bench.cold_load [--rounds 5] [--folder FOLDER] [--write]

Each load is a process of its own. Before it, the weights are thrown out of the page cache, or read into it ("in
memory": what a worker finds that starts again on the same machine). Both ways take turns. Without --folder the weights
are a random Z-Image of 1.8 GB. Linux only.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.command import CommandLine, publish
from bench.report import machine
from worker.engine.loading.weights import weight_files

# Every page of the weights is touched: what safetensors maps is read only then.
LOAD = """
import sys, time
began = time.monotonic()
from storage.catalog import Model
from worker.engine import load_engine
from worker.engine.loading import read_ahead

if sys.argv[2] == "as it comes":
    read_ahead.SHARE = 0
engine = load_engine(Model(name="bench/cold", source=sys.argv[1]), device="cpu")
for weights in engine._pipeline.transformer.parameters():
    weights.flatten()[::1024].sum()
print(time.monotonic() - began)
"""
WAYS = ("as it comes", "read ahead")
STATES = ("on the disk", "in memory")


def save_random_pipeline(folder: Path) -> None:
    """A Z-Image whose transformer has 0.9 billion random weights in bfloat16."""
    import torch
    from diffusers import ZImageTransformer2DModel

    from tests.engine.tiny_pipelines import tiny_zimage

    pipeline = tiny_zimage()
    shape = {name: value for name, value in pipeline.transformer.config.items() if not name.startswith("_")}
    shape |= {"dim": 2304, "n_heads": 18, "n_kv_heads": 18, "n_layers": 12, "axes_dims": (32, 48, 48)}
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        pipeline.register_modules(transformer=ZImageTransformer2DModel(**shape))
    finally:
        torch.set_default_dtype(default)
    pipeline.save_pretrained(folder, max_shard_size="600MB")
    os.sync()  # a page that was not written yet can't be thrown out


def set_state(files: list[Path], state: str) -> None:
    for file in files:
        with file.open("rb") as opened:
            if state == "on the disk":
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while opened.read(1 << 24):
                    pass


def load_once(folder: Path, way: str) -> float:
    """Seconds."""
    ended = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), way],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(ended.stdout.split()[-1])


def main() -> None:
    parser = CommandLine(__doc__)
    parser.size("--rounds", 5, quick=1)
    parser.size("--folder", "", quick="models/pocket", explanation="of the weights")
    asked = parser.read()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        folder = Path(asked.folder or name)
        if not asked.folder:
            save_random_pipeline(folder)
        files = weight_files(folder)
        seconds: dict[tuple[str, str], list[float]] = {(state, way): [] for state in STATES for way in WAYS}
        for number in range(asked.rounds):
            for state in STATES:
                for way in sorted(WAYS, reverse=bool(number % 2)):
                    set_state(files, state)
                    seconds[state, way].append(load_once(folder, way))
                    print(f"{state}, {way}: {seconds[state, way][-1]:.2f} s", flush=True)
        size = sum(file.stat().st_size for file in files) / 1e9
    lines = [
        f"{size:.1f} GB of weights, medians of {asked.rounds} loads each, torch's import included.",
        "",
        "| weights | as it comes, s | read ahead, s | ratio |",
        "|---|---|---|---|",
    ]
    for state in STATES:
        plain, ahead = (seconds[state, way] for way in WAYS)
        ratio = statistics.median(b / a for a, b in zip(plain, ahead, strict=True))
        lines.append(f"| {state} | {statistics.median(plain):.2f} | {statistics.median(ahead):.2f} | {ratio:.2f} |")
    publish("cold_load", "\n".join(lines), before, write=asked.write)


if __name__ == "__main__":
    main()
