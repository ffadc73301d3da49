"""`darkroom models`, `usage`, `status`: what a server has, does and did."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from cli.client.server import data_option, find_server
from cli.json_option import json_option

EVERY_S = 2.0


@click.command("models")
@json_option
@data_option
def models(as_json: bool, data: Path) -> None:
    """The models that the server draws with."""
    from cli.client.tables import echo_json, echo_table

    found = find_server(data).get("/v1/models")["results"]
    if as_json:
        echo_json(found)
        return
    rows = [(f"{each['owner']}/{each['name']}", each["run_count"], each["description"] or "") for each in found]
    echo_table(("model", "drawn", "description"), rows, stretch="description")


@click.command("usage")
@click.option("--from", "first", metavar="DAY", help="2026-01-01; default: 30 days ago.")
@click.option("--to", "last", metavar="DAY", help="That day included; default: today.")
@click.option("--by", default="day", show_default=True, help="day, token, model, or several with commas.")
@json_option
@data_option
def usage(first: str | None, last: str | None, by: str, as_json: bool, data: Path) -> None:
    """Pictures, steps and GPU seconds by day, token or model.

    \b
    darkroom usage --from 2026-01-01 --to 2026-01-31 --by token,model
    """
    from cli.client.tables import echo_json, echo_table

    found = find_server(data).get("/v1/usage", **{"from": first, "to": last, "by": by})
    if as_json:
        echo_json(found)
        return
    columns = (*found["by"], "succeeded", "failed", "canceled", "images", "steps", "gpu_seconds")
    echo_table(columns, [[row[column] for column in columns] for row in found["results"]])


@click.command("status")
@click.option("--watch", is_flag=True, help=f"Show it again every {EVERY_S:g} s, until Ctrl-C.")
@json_option
@data_option
def status(watch: bool, as_json: bool, data: Path) -> None:
    """Queues, workers, what can't be loaded or delivered: one screen. Needs a token with the scope `admin`.

    Exit codes: 0 well, 1 something is wrong, 2 no server.
    """
    from cli.client.tables import echo_json

    server = find_server(data)
    while True:
        found = server.get("/v1/status")
        problems = problems_of(found)
        if as_json:
            echo_json(found)
        else:
            if watch:
                click.clear()
            _show(server.url, found, problems)
        if not watch:
            sys.exit(1 if problems else 0)
        time.sleep(EVERY_S)


def problems_of(found: dict[str, Any]) -> list[str]:
    """What is wrong, in words; the page /status says the same (api/page/static/status/health.js)."""
    system, webhooks = found["system"], found["webhooks"]
    problems = []
    if system["couriers"] == 0:
        problems.append("no courier runs: no webhook is sent, and no dead worker is noticed")
    if not system["listener"]:
        problems.append("the API does not hear Postgres's notifications: streams and waits are slow")
    if not system["bucket"]:
        problems.append("the bucket can't be reached: no picture can be stored")
    for model in found["models"]:
        if model["load_failures"]:
            problems.append(f"{model['model']} can't be loaded: {model['load_failures']['reason']}")
        elif model["queue"]["waiting"] and not any(worker["model"] == model["model"] for worker in found["workers"]):
            problems.append(f"{model['queue']['waiting']} wait for {model['model']} and no worker serves it")
    if webhooks["overdue_s"] > 60:
        problems.append(f"webhooks are {webhooks['overdue_s']:.0f} s late")
    if system["objects_missing"]:
        problems.append(f"{system['objects_missing']} pictures are gone from the bucket")
    return problems


def _show(url: str, found: dict[str, Any], problems: list[str]) -> None:
    from cli.client.tables import echo_table, plain

    click.echo(f"{url}  darkroom {found['version']}")
    for problem in problems:
        click.secho(plain(problem), fg="red")
    if not problems:
        click.secho("all is well", fg="green")
    system = found["system"]
    click.echo(
        f"Postgres {system['database_bytes'] / 1e6:,.0f} MB, about {system['predictions']:,} predictions"
        f" and {system['objects']:,} objects; {found['webhooks']['pending']} webhooks wait"
    )
    click.echo()
    echo_table(
        ("model", "waiting", "oldest, s", "drawn now", "ended in the last hour", "failed"),
        [
            (
                model["model"],
                model["queue"]["waiting"],
                model["queue"]["oldest_wait_s"],
                model["queue"]["processing"],
                model["last_hour"]["succeeded"],
                model["last_hour"]["failed"],
            )
            for model in found["models"]
        ],
        stretch="model",
    )
    if found["workers"]:
        click.echo()
        rows = [
            (each["hostname"], each["model"], each["state"], each["device"] or "", each["images"], each["error"] or "")
            for each in found["workers"]
        ]
        echo_table(("worker", "model", "state", "device", "images", "error"), rows, stretch="error")
    if failing := found["webhooks"]["failing"]:
        click.echo()
        deliveries = [
            (each["id"], each["prediction_id"], each["status"], each.get("last_status") or "", each["last_error"] or "")
            for each in failing[:10]
        ]
        echo_table(("webhook", "prediction", "state", "HTTP", "error"), deliveries, stretch="error")
