"""Submits a second of this checkout beside another one (an earlier commit), and the CPU time that each costs.

    git worktree add --detach ../before COMMIT && make -C ../before setup
    python -m bench.submit_versions ../before [--rounds 8] [--seconds 4] [--connections 1 8]

Each API runs in its own checkout's environment, on its own database of one Postgres. The runs alternate. CPU time is
that of the API's processes; it depends less on what else the machine does than the wall clock.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.command import CommandLine, own_servers
from bench.load import Taken, post_again_and_again
from bench.report import machine
from bench.submit import BODY, WARM_UP_S
from tests.conftest import REPOSITORY, RunningServices, _create_database, _drop_database
from tests.support.serving import environment_of, free_port, stop, wait_until_ready


@dataclass(frozen=True)
class Run:
    """One run of the load against one checkout."""

    taken: Taken
    cpu_ms: float  # of the API, for each request, with its warm-up


class Side:
    """The API of one checkout."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self._process = process

    def cpu_s(self) -> float:
        root = psutil.Process(self._process.pid)
        times = [each.cpu_times() for each in [root, *root.children(recursive=True)]]
        return float(sum(each.user + each.system for each in times))

    def run(self, connections: int, seconds: float) -> Run:
        before = self.cpu_s()
        url = f"{self.url}/v1/predictions"
        taken = post_again_and_again(url, BODY, connections=connections, seconds=seconds, warm_up_s=WARM_UP_S)
        requests = taken.per_second * (seconds + WARM_UP_S)
        return Run(taken, 1000 * (self.cpu_s() - before) / requests)


@contextmanager
def api_of(checkout: Path, servers: RunningServices, folder: Path) -> Iterator[Side]:
    database = f"t{secrets.token_hex(6)}"
    _create_database(servers, database)
    port = free_port()
    catalog = folder / f"{database}.toml"
    catalog.write_text('[models."darkroom/nobody"]\nengine = "blank"\nversion = "1"\n')
    settings = servers.settings_for(database, public_url=f"http://127.0.0.1:{port}", models=catalog)
    environment = environment_of(settings) | {"PYTHONPATH": str(checkout)}
    command = [str(checkout / ".venv/bin/python"), "-m", "cli.main"]
    subprocess.run([*command, "migrate"], cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
    process = subprocess.Popen([*command, "api", "--port", str(port)], cwd=checkout, env=environment)
    try:
        wait_until_ready(settings.public_url, process)
        yield Side(settings.public_url, process)
    finally:
        stop([process])
        _drop_database(servers, database)


def main() -> None:
    options = CommandLine(__doc__, writes=False)
    options.add_argument("checkout", type=Path, nargs="?", help="with --quick, this one if left out")
    options.size("--rounds", 8, quick=1)
    options.size("--seconds", 4.0, quick=2.0)
    options.size("--connections", [1, 8], quick=[1])
    asked = options.read()
    if asked.checkout is None and not asked.quick:
        options.error("Which checkout is it compared with?")
    other = (asked.checkout or REPOSITORY).resolve()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name, own_servers() as servers:
        folder = Path(name)
        with api_of(REPOSITORY, servers, folder) as ours, api_of(other, servers, folder) as theirs:
            for connections in asked.connections:
                compare(ours, theirs, connections, asked.rounds, asked.seconds)


def compare(ours: Side, theirs: Side, connections: int, rounds: int, seconds: float) -> None:
    pairs = []
    for number in range(rounds):
        runs = {side: side.run(connections, seconds) for side in ([ours, theirs] if number % 2 else [theirs, ours])}
        pairs.append((runs[ours], runs[theirs]))
    ratios = sorted(a.taken.per_second / b.taken.per_second for a, b in pairs)
    cpu = sorted(a.cpu_ms / b.cpu_ms for a, b in pairs)
    print(
        f"{connections:>3} connections: requests/s {median(a.taken.per_second for a, _ in pairs):.0f} beside"
        f" {median(b.taken.per_second for _, b in pairs):.0f}, ratio {median(ratios):.3f}"
        f" ({ratios[0]:.2f} to {ratios[-1]:.2f}); CPU {median(a.cpu_ms for a, _ in pairs):.3f} beside"
        f" {median(b.cpu_ms for _, b in pairs):.3f} ms a request, ratio {median(cpu):.3f};"
        f" p50 {median(a.taken.quantile_ms(50) for a, _ in pairs):.2f} beside"
        f" {median(b.taken.quantile_ms(50) for _, b in pairs):.2f} ms",
        flush=True,
    )


if __name__ == "__main__":
    main()
