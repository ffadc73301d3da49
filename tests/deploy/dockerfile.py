"""A Dockerfile read into its stages, and its build stage carried out in a folder, without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
INSTALLED = "/opt/darkroom"  # where the images keep everything of ours


@dataclass
class Stage:
    """What follows one FROM: (instruction, its words), in order."""

    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, keyword: str) -> list[str]:
        return [words for step, words in self.steps if step == keyword]

    def last(self, keyword: str) -> str:
        return self.of(keyword)[-1]


def read(name: str) -> list[Stage]:
    """The stages of a Dockerfile in deploy/."""
    text = (DEPLOY / name).read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, lines.splitlines())):
        keyword, _, words = line.partition(" ")
        if keyword == "FROM":
            stages.append(Stage())
        if stages:
            stages[-1].steps.append((keyword, " ".join(words.split())))
    return stages


def health_check(name: str) -> list[str]:
    """The command by which an engine asks a container of this image how it is."""
    _, _, command = read(name)[-1].last("HEALTHCHECK").partition(" CMD ")
    words: list[str] = json.loads(command)
    return words


def copied(stage: Stage) -> list[str]:
    """What a stage copies out of the project."""
    return [source for words in stage.of("COPY") if not words.startswith("--from") for source in words.split()[:-1]]


class BuiltImage:
    """A Dockerfile's very install steps, run in `root` in the place of the image's root folder.

    `python` stands for the base image's. The last stage's system packages and account are left out: what
    runs it brings an account. With `packages`, a site-packages folder, nothing is installed: the project is copied
    and finds its dependencies there.
    """

    def __init__(self, name: str, root: Path, *, python: Path, packages: Path | None = None) -> None:
        self._root = root
        self._packages = packages
        build, final = read(name)
        self.entrypoint: list[str] = json.loads(final.last("ENTRYPOINT"))
        self.default_command: list[str] = json.loads(final.last("CMD"))
        tools = root / "tools"
        tools.mkdir(parents=True)
        (tools / "python").symlink_to(python)
        self._env = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}
        self._folder = root
        for keyword, words in build.steps:
            if keyword == "RUN" and packages is not None:
                continue
            self._carry_out(keyword, self._inside(words))
        self._env |= {"HOME": "/nonexistent"}
        for keyword, words in final.steps:
            if keyword in {"ENV", "WORKDIR"}:
                self._carry_out(keyword, self._inside(words))
        self.working_folder = self._folder
        self.environment = self._env
        if packages is not None:
            self.environment["PYTHONPATH"] = f"{self.working_folder}:{packages}"

    def command(self, *arguments: str) -> list[str]:
        """The ENTRYPOINT with these arguments, or with those of CMD; without tini where this machine has none."""
        entrypoint = self.entrypoint
        if entrypoint[0] == "tini" and shutil.which("tini") is None:
            entrypoint = entrypoint[entrypoint.index("--") + 1 :]
        if self._packages is not None and entrypoint[-1] == "darkroom":  # what its script would run
            entrypoint = [*entrypoint[:-1], "python", "-m", "cli.main"]
        program = shutil.which(entrypoint[0], path=self.environment["PATH"])
        assert program is not None, entrypoint
        return [program, *entrypoint[1:], *(arguments or self.default_command)]

    def make_read_only(self) -> None:
        for path in (self._root, *self._root.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)

    def files(self) -> set[Path]:
        return set(self._root.rglob("*"))

    def _inside(self, words: str) -> str:
        return re.sub(rf"(?<![\w.]){INSTALLED}\b", f"{self._root}{INSTALLED}", words)

    def _carry_out(self, keyword: str, words: str) -> None:
        if keyword == "WORKDIR":
            self._folder = Path(words)
            self._folder.mkdir(parents=True, exist_ok=True)
        elif keyword == "ENV":
            for pair in words.split():
                name, _, value = pair.partition("=")
                self._env[name] = value.replace("$PATH", self._env["PATH"])
        elif keyword == "RUN":
            command = re.sub(r"^(--\S+ )+", "", words)
            done = subprocess.run(
                ["/bin/sh", "-ec", command],
                cwd=self._folder,
                env=self._env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"RUN {words}\n{done.stdout}\n{done.stderr}"
        elif keyword == "COPY":
            *sources, target = words.split()
            for source in sources:
                self._copy(REPOSITORY / source, self._folder / target)

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")  # as .dockerignore says
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy(source, target)
