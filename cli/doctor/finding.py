"""What the doctor found of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """`remedy`: what to do; empty if all is well."""

    part: str  # "database", "bucket", …
    level: Level
    text: str
    remedy: str = ""


def well(part: str, text: str) -> Finding:
    return Finding(part, "ok", text)


def warning(part: str, text: str, remedy: str) -> Finding:
    return Finding(part, "warning", text, remedy)


def broken(part: str, text: str, remedy: str) -> Finding:
    return Finding(part, "broken", text, remedy)


def first_line(error: BaseException) -> str:
    """The first line of an error that another library wrote."""
    return str(error).strip().partition("\n")[0].rstrip(".")
