"""Measure a GPU with Z-Image at its real size and random weights; nothing is downloaded.

    python -m bench.gpu [--model real|pocket] [--device auto] [--only steps,company] [--budget-s 600]
                        [--ways plain;…] [--keep FOLDER] [--json FILE] [--write]
    python -m bench.gpu --from FILE… --write     the page from the figures of another machine

`make bench-gpu` writes docs/benchmarks-gpu.md. On a machine without a GPU, `--model pocket` runs all of it at pocket
size: that shows that it works, the figures mean nothing. A section that has no time left, or fails, is named.
Needs 40 GB on the device, and 30 GB of disk for the section `loading`.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.command import CommandLine
from bench.gpu import arrivals, ceilings, company, edits, loading, loras, parts, steps, variants
from bench.gpu.subject import Subject, pocket, real_size
from bench.gpu.table import Table
from bench.report import machine
from worker.engine.device.choose import choose_device, device_name

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks-gpu.md"
# `loading` gives the model up: it is the last one.
SECTIONS: dict[str, Callable[[Subject], Table]] = {
    "ceilings": ceilings.measure,
    "steps": steps.measure,
    "company": company.measure,
    "parts": parts.measure,
    "edits": edits.measure,
    "loras": loras.measure,
    "arrivals": arrivals.measure,
    "variants": variants.measure,
    "loading": loading.measure,
}


def main(words: Sequence[str] | None = None) -> None:
    """`words`: the command line, without the program's name."""
    options = CommandLine(__doc__, writes=False, quick=False)
    options.add_argument("--model", choices=("real", "pocket"), default="real")
    options.add_argument("--device", default="auto")
    options.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between them")
    options.add_argument("--ways", default="", help="rows of the section `variants`, with semicolons; all if empty")
    options.add_argument("--arrivals-s", type=float, default=15.0, help="of each way in the section `arrivals`")
    options.add_argument("--keep", type=Path, help="leave the model's folder there (section `loading`)")
    options.add_argument("--budget-s", type=float, default=1800, help="no section begins after it, in seconds")
    options.add_argument("--json", type=Path, help="write the figures there, after each section")
    options.add_argument(
        "--from", dest="figures", type=Path, nargs="+", help="figures to make the page from; measures nothing"
    )
    options.add_argument("--write", type=Path, nargs="?", const=PAGE, metavar="PAGE", help=f"default: {PAGE.name}")
    asked = options.read(words)
    found = merged(asked.figures) if asked.figures else measure(asked)
    page = page_of(found)
    print(page)
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")


def measure(asked: Any) -> dict[str, Any]:
    began = time.monotonic()
    device = choose_device(asked.device)
    subject = real_size(device) if asked.model == "real" else pocket(device)
    subject.wait()
    found: dict[str, Any] = {
        "device": device_name(device),
        "machine": machine(),
        "torch": torch.__version__,
        "model": subject.what,
        "made_s": time.monotonic() - began,
        "sections": {},
        "left_out": [],
    }
    print(f"{found['device']}: {subject.what}, made in {found['made_s']:.1f} s", flush=True)
    ways = tuple(filter(None, asked.ways.split(";")))
    sections = SECTIONS | {
        "arrivals": partial(arrivals.measure, seconds=asked.arrivals_s),
        "variants": partial(variants.measure, only=ways),
        "loading": partial(loading.measure, keep=asked.keep),
    }
    for name in asked.only.split(","):
        if time.monotonic() - began > asked.budget_s:
            found["left_out"].append(f"{name}: no time was left")
            continue
        section_began = time.monotonic()
        try:
            table = sections[name](subject)
        except Exception as error:
            traceback.print_exc()
            found["left_out"].append(f"{name}: {type(error).__name__}: {error}")
            continue
        table.notes.append(f"This section took {time.monotonic() - section_began:.0f} s.")
        found["sections"][name] = table.to_json()
        print(table.markdown(), flush=True)
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def merged(files: list[Path]) -> dict[str, Any]:
    """The figures of several runs on one device; of a section that is in several, the rows of all."""
    first, *others = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for other in others:
        for name, section in other["sections"].items():
            if name in first["sections"]:
                first["sections"][name]["rows"] += section["rows"]
                first["sections"][name]["figures"] |= section["figures"]
            else:
                first["sections"][name] = section
        first["left_out"] += other["left_out"]
    found: dict[str, Any] = first
    return found


def page_of(found: dict[str, Any]) -> str:
    lines = [
        "# Figures of a GPU",
        "",
        "Written by `make bench-gpu`. Speed does not depend on the values of weights, so they are random, in the real"
        " sizes of",
        "Z-Image-Turbo.",
        "",
        f"**{found['device']}**, torch {found['torch']}; {found['model']}. {found['machine']}",
        "",
    ]
    tables = [Table(**section).markdown() for section in found["sections"].values()]
    left_out = [f"Left out: {reason}." for reason in found["left_out"]]
    return "\n".join([*lines, *tables, *left_out]).rstrip() + "\n"


if __name__ == "__main__":
    main()
