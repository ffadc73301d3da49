"""A command's value that is a list of scopes."""

from __future__ import annotations

import click

from storage.access.scopes import Scope, parse_scopes
from storage.errors import OperatorError


class Scopes(click.ParamType[frozenset[Scope]]):
    """`draw,read`."""

    name = "SCOPES"

    def convert(
        self, value: str | frozenset[Scope], param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[Scope]:
        if isinstance(value, frozenset):
            return value
        try:
            return parse_scopes(value)
        except OperatorError as error:
            self.fail(str(error), param, ctx)


SCOPES = Scopes()
