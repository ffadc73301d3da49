"""Run benchmarks, one after the other: they would disturb each other.

    python -m bench [NAME …] [--quick] [OPTION …]

Without names, all that take minutes; with --quick, all there are, small: their figures mean nothing then. All options
go to each. One that can't run here, because a program or a peer is missing, is left out. It ends with 1 if one failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import takewhile

from bench.command import LEFT_OUT

# bench/README.md says what each measures and needs.
MINUTES = (
    "claim_backlog", "submit", "pickup", "overhead", "growth", "memory", "streams", "slow_clients", "input_images",
    "cached_answers", "idle_share", "engine", "estimates", "page",
)  # fmt: skip
# Run by name: they take longer, need a second checkout, or compare what only developers choose between.
BY_NAME = (
    "lists", "status", "webhook_fairness", "cold_load", "cold_start", "bursts", "model_servers", "cpu_threads",
    "submit_versions", "scaling",
)  # fmt: skip


def main() -> int:
    words = sys.argv[1:]
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    options = words[len(names) :]
    if {"-h", "--help"} & set(options) and not names:
        print(__doc__)
        return 0
    unknown = sorted(set(names) - {*MINUTES, *BY_NAME})
    if unknown:
        print(f"No such benchmark: {', '.join(unknown)}. There are: {', '.join((*MINUTES, *BY_NAME))}", file=sys.stderr)
        return 2
    ended = {}
    for name in names or (MINUTES + BY_NAME if "--quick" in options else MINUTES):
        print(f"== bench.{name}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", *options]
        ended[name] = subprocess.run(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=False).returncode
    left_out = [name for name, status in ended.items() if status == LEFT_OUT]
    failed = [name for name, status in ended.items() if status not in (0, LEFT_OUT)]
    print(f"== {len(ended) - len(left_out) - len(failed)} of {len(ended)} benchmarks ran to their end")
    for title, some in (("left out", left_out), ("failed", failed)):
        if some:
            print(f"   {title}: {', '.join(some)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
