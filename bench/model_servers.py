"""Pictures a second and the wait for one: Darkroom beside Cog's server and LitServe, each with the pocket model.

    python -m bench.model_servers [--rounds 2] [--seconds 20] [--clients 1 8 32] [--peer-python PYTHON] [--write]

Each client asks again as soon as it has its picture, as bytes in the answer; every request has a prompt out of eight
and a new seed. The peers call diffusers' own pipeline (bench/peers/pocket.py), LitServe with batches of up to 8. Cog
draws one at a time and answers 409 meanwhile: its clients try again after 10 ms. They keep nothing: no queue that
survives, no database, no bucket. Darkroom does all of that. "Plain" is a script that calls the pipeline in a loop.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import urllib3

from bench.celery_stack import PEERS, make_environment
from bench.command import CommandLine, publish
from bench.json_http import Refused, get_json, post_json
from bench.report import machine
from bench.whole_service import NAME, wait_for_warm_parent, whole_service
from tests.support.serving import free_port, stop

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "models" / "pocket"
START_TIMEOUT_S = 120.0
TRY_AGAIN_AFTER_S = 0.01
PROMPTS = [f"a {colour} {shape}" for colour in ("red", "blue", "green", "yellow") for shape in ("circle", "square")]
seeds = itertools.count(1)

PLAIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pocket import draw, load
pipeline = load()
seconds = []
for seed in range(int(sys.argv[2])):
    began = time.perf_counter()
    draw(pipeline, [("a red circle", seed)])
    seconds.append(time.perf_counter() - began)
print(sorted(seconds)[len(seconds) // 2])
"""

Ask = Callable[[str, int], None]


def plain_s(times: int) -> float:
    """Seconds a picture (PNG file included) in a script that does nothing else: the median."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(PEERS), str(times)],
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


@contextmanager
def darkroom(log: Path) -> Iterator[Ask]:
    with whole_service(FOLDER, dtype="float32", side=128, log=log) as address:
        wait_for_warm_parent(log)

        def ask(prompt: str, seed: int) -> None:
            body = {"model": NAME, "prompt": prompt, "size": "128x128", "response_format": "b64_json"}
            assert post_json(f"{address}/v1/images/generations", body)["data"][0]["b64_json"]

        yield ask


@contextmanager
def cog(python: Path, log: Path) -> Iterator[Ask]:
    port = free_port()
    words = [str(python), "-m", "cog.server.http", "--host", "127.0.0.1"]
    # Its worker is the first `python` in PATH.
    own = {
        "PORT": str(port),
        "COG_PREDICT_TYPE_STUB": f"{PEERS / 'cog_model.py'}:Predictor",
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    with _started(words, own, log):
        _wait_until(lambda: get_json(f"http://127.0.0.1:{port}/health-check")["status"] == "READY")

        def ask(prompt: str, seed: int) -> None:
            while True:
                try:
                    answer = post_json(
                        f"http://127.0.0.1:{port}/predictions", {"input": {"prompt": prompt, "seed": seed}}
                    )
                except Refused as error:
                    if error.status != 409:
                        raise
                    time.sleep(TRY_AGAIN_AFTER_S)
                else:
                    assert answer["status"] == "succeeded"
                    return

        yield ask


@contextmanager
def litserve(python: Path, log: Path) -> Iterator[Ask]:
    port = free_port()
    with _started([str(python), str(PEERS / "litserve_model.py"), str(port)], {}, log):

        def ask(prompt: str, seed: int) -> None:
            assert post_json(f"http://127.0.0.1:{port}/predict", {"prompt": prompt, "seed": seed})["png"]

        def answers() -> bool:
            ask("a red circle", 0)
            return True

        _wait_until(answers)
        yield ask


def measure(ask: Ask, *, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Pictures a second, and the wait for each."""
    waits: list[float] = []
    failed: list[BaseException] = []
    began = time.perf_counter()

    def client() -> None:
        try:
            while time.perf_counter() - began < seconds:
                seed = next(seeds)
                asked = time.perf_counter()
                ask(PROMPTS[seed % len(PROMPTS)], seed)
                waits.append(time.perf_counter() - asked)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return len(waits) / (time.perf_counter() - began), sorted(waits)


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--rounds", 2, quick=1)
    options.size("--seconds", 20.0, quick=1.0)
    options.size("--warm-up-s", 5.0, quick=0.5)
    options.size("--plain", 40, quick=3, explanation="pictures of the plain script")
    options.size("--clients", [1, 8, 32], quick=[1, 2])
    options.add_argument("--peer-python", type=Path, help="an environment that has bench/peers/model_servers.txt")
    asked = options.read()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        folder = Path(name)
        python = asked.peer_python or make_environment(folder / "peer", "model_servers.txt")
        _see_our_packages(python)
        sides = {
            "Darkroom": lambda: darkroom(folder / "darkroom.log"),
            "Cog": lambda: cog(python, folder / "cog.log"),
            "LitServe": lambda: litserve(python, folder / "litserve.log"),
        }
        taken: dict[tuple[int, str], list[tuple[float, list[float]]]] = {}
        plain = []
        for number in range(asked.rounds):
            plain.append(plain_s(asked.plain))
            for side in sorted(sides, reverse=bool(number % 2)):
                with ExitStack() as stack:  # one at a time: each would take the others' cores
                    ask = stack.enter_context(sides[side]())
                    measure(ask, clients=8, seconds=asked.warm_up_s)
                    for clients in asked.clients:
                        found = measure(ask, clients=clients, seconds=asked.seconds)
                        taken.setdefault((clients, side), []).append(found)
                        print(f"{clients:>3} clients, {side:<9}: {found[0]:5.2f}/s", flush=True)
    publish("model_servers", table(taken, plain, list(sides)), before, write=asked.write)


def table(taken: dict[tuple[int, str], list[tuple[float, list[float]]]], plain: list[float], sides: list[str]) -> str:
    """Markdown; medians of the rounds."""
    lines = [
        f"A plain script takes {1000 * statistics.median(plain):.0f} ms a picture.",
        "",
        "| clients | | pictures/s | wait p50, s | p99, s | Darkroom's pictures/s ÷ its |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for clients in sorted({clients for clients, _ in taken}):
        ours = statistics.median(rate for rate, _ in taken[clients, sides[0]])
        for side in sides:
            runs = taken[clients, side]
            rate = statistics.median(rate for rate, _ in runs)
            p50, p99 = (
                statistics.median(waits[min(len(waits) - 1, int(share * len(waits)))] for _, waits in runs)
                for share in (0.5, 0.99)
            )
            lines.append(f"| {clients} | {side} | {rate:.2f} | {p50:.2f} | {p99:.2f} | {ours / rate:.2f} |")
    return "\n".join(lines)


@contextmanager
def _started(words: list[str], own: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as told:
        process = subprocess.Popen(
            words,
            env=_environment() | own,
            stdout=told,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield
    finally:
        stop([process])
        with suppress(ProcessLookupError):  # LitServe's own processes outlive it
            os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    return os.environ | {"FOLDER": str(FOLDER), "PYTHONPATH": str(PEERS), "HF_HUB_OFFLINE": "1"}


def _see_our_packages(python: Path) -> None:
    """The peers' environment takes torch and diffusers from this one, behind its own packages."""
    [packages] = (python.parent.parent / "lib").glob("python3*/site-packages")
    [ours] = (Path(sys.prefix) / "lib").glob("python3*/site-packages")
    (packages / "behind-their-own.pth").write_text(f"{ours}\n")


def _wait_until(is_ready: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        try:
            if is_ready():
                return
        except (urllib3.exceptions.HTTPError, Refused):
            pass
        time.sleep(0.2)
    raise SystemExit(f"a peer was not ready within {START_TIMEOUT_S:.0f} s")


if __name__ == "__main__":
    main()
