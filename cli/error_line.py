"""The one line that says what the operator has to mend."""

from __future__ import annotations

import errno
import re
import sys
from typing import TYPE_CHECKING

from storage.errors import OperatorError

if TYPE_CHECKING:
    from pydantic import ValidationError

SECRET_WORDS = ("secret", "password", "key", "token", "url")  # a DATABASE_URL holds a password

CHOICES = re.compile(r"\^\(([a-z|A-Z]+)\)\$")  # the pattern of a setting that has a few values


def error_line(error: Exception) -> str | None:
    """What went wrong and what to do. None for a bug, which should show its traceback."""
    if isinstance(error, OperatorError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk is full ({error.filename or error.strerror}): free some space and start again."
    # If pydantic raised the error, it is imported already. Importing it here would slow down `--help`.
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(error, pydantic.ValidationError):
        return _setting_line(error)
    return None


def _setting_line(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # several settings that don't go together; its input is all of them, secrets too
            problems.append(message)
            continue
        field = str(problem["loc"][0])
        name = field.upper()
        if problem["type"] == "missing":
            problems.append(f"{name} is not set")
            continue
        if problem["type"] == "string_pattern_mismatch" and (one_of := CHOICES.fullmatch(problem["ctx"]["pattern"])):
            message = f"must be one of {', '.join(one_of[1].split('|'))}"
        shown = "" if any(word in field.lower() for word in SECRET_WORDS) else f" (it is {problem['input']!r})"
        problems.append(f"{name}: {message}{shown}")
    return f"Set it right in the environment: {'; '.join(problems)}."
