"""What a token may do. Every route of the API needs one of these scopes; `admin` includes the others."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from storage.errors import OperatorError


class Scope(StrEnum):
    """Listed in the order in which they are shown."""

    DRAW = "draw"  # create, cancel, keep and delete predictions; replay their webhooks
    READ = "read"  # everything about one's own predictions, and the models
    METRICS = "metrics"  # /metrics, and nothing else
    ADMIN = "admin"  # every route; the routes for operators also show the predictions of other tokens


# What `darkroom tokens create` gives.
DEFAULT = frozenset({Scope.DRAW, Scope.READ})

ALL = frozenset(Scope)


def allows(scopes: Iterable[Scope], needed: Scope) -> bool:
    """Whether these scopes include the needed one."""
    held = set(scopes)
    return needed in held or Scope.ADMIN in held


def parse_scopes(text: str) -> frozenset[Scope]:
    """Parse scopes such as `draw,read`. Raises OperatorError for an unknown scope, or if there is no scope."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ALL]
    if unknown or not names:
        problem = f"There is no scope {unknown[0]!r}" if unknown else "A token needs at least one scope"
        raise OperatorError(f"{problem}: choose from {show_scopes(ALL)}, separated by commas.")
    return frozenset(Scope(name) for name in names)


def show_scopes(scopes: Iterable[Scope]) -> str:
    """Format scopes as `draw,read`, always in the same order."""
    held = set(scopes)
    return ",".join(scope for scope in Scope if scope in held)
