"""`--json`, as every command that lists something takes it."""

from __future__ import annotations

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
