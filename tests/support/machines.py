"""Machines in network namespaces: each has a network of its own, with one cable to this machine that can be cut."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """`address` is this machine's as the other one sees it. Names of links have at most 15 characters."""

    name: str
    link: str
    address: str

    def command(self, words: Sequence[str]) -> list[str]:
        """The words that run a command there, under the machine's own host name."""
        named = ["unshare", "--uts", "sh", "-c", f'hostname {self.name} && exec "$@"', "sh"]
        return ["ip", "netns", "exec", self.name, *named, *words]

    def cut(self) -> None:
        """What is sent from now on gets lost, in both directions, and nobody is told."""
        _run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        _run("ip", "link", "set", self.link, "up")


def why_impossible() -> str | None:
    """Why there can be no machines here; None if there can."""
    if sys.platform != "linux":
        return "network namespaces exist on Linux only"
    missing = [program for program in ("ip", "unshare") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} isn't installed (iproute2, util-linux)"
    try:
        with machine(250):
            return None
    except subprocess.CalledProcessError as error:
        return f"the kernel or this account forbids it: {' '.join(error.cmd)}: {error.stderr.strip()}"


@contextmanager
def machine(number: int) -> Iterator[Machine]:
    """One machine, gone with the block. `number`: of its network, 0 to 255. Raises CalledProcessError."""
    mark = secrets.token_hex(3)
    name, link, inside = f"dr-{mark}", f"dr-{mark}-o", f"dr-{mark}-i"
    network = f"10.{200 + number % 50}.{secrets.randbelow(250) + 1}"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", inside, "netns", name)
        _run("ip", "address", "add", f"{network}.1/24", "dev", link)
        _run("ip", "link", "set", link, "up")
        for words in (
            ("address", "add", f"{network}.2/24", "dev", inside),
            ("link", "set", inside, "up"),
            ("link", "set", "lo", "up"),
        ):
            _run("ip", "-n", name, *words)
        _run("ip", "netns", "exec", name, "unshare", "--uts", "hostname", name)
        yield Machine(name, link, f"{network}.1")
    finally:
        subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)
        _run("ip", "netns", "delete", name)


def _run(*words: str) -> None:
    subprocess.run(words, capture_output=True, text=True, check=True)
