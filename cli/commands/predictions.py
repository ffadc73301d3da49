"""`darkroom list`, `get`, `watch`, `cancel`, `delete`, `keep`: predictions that are there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from cli.client.server import data_option, find_server, prediction_path
from cli.json_option import json_option

id_argument = click.argument("prediction_id", metavar="ID")


@click.command("list")
@click.option("-s", "--search", metavar="WORDS", help="All of these words are in the prompt.")
@click.option("--status", metavar="STATUS,…", help="starting, processing, succeeded, failed, canceled.")
@click.option("-m", "--model", help="owner/name, or an alias.")
@click.option("--kept", is_flag=True, help="Only those that retention leaves alone.")
@click.option("-n", "--number", type=click.IntRange(1, 10_000), default=20, show_default=True)
@json_option
@data_option
def list_predictions(
    search: str | None, status: str | None, model: str | None, kept: bool, number: int, as_json: bool, data: Path
) -> None:
    """The newest predictions of this token.

    \b
    darkroom list --search "red circle" --status succeeded,failed
    darkroom list -n 1000 --json | jq -r '.[].id'
    """
    from cli.client.tables import echo_json, echo_table

    server = find_server(data)
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < number:
        page = server.get(
            "/v1/predictions",
            q=search,
            status=status,
            model=model,
            keep="true" if kept else None,
            limit=min(100, number - len(found)),
            cursor=cursor,
        )
        found += page["results"]
        cursor = _cursor_of(page["next"])
        if cursor is None:
            break
    if as_json:
        echo_json(found)
        return
    columns = ["id", "created (UTC)", "status", "model", "prompt"]
    rows = [
        [each["id"], _minute(each["created_at"]), each["status"], each["model"], (each["input"] or {}).get("prompt")]
        for each in found
    ]
    if sys.stdout.isatty() and len({row[3] for row in rows}) <= 1:  # narrow terminals: the prompt says more
        for row in (columns, *rows):
            del row[3]
    echo_table(columns, rows, stretch="prompt")


@click.command("get")
@id_argument
@click.option("-o", "--output", help="Save its pictures: a file, a folder, or - for standard output.")
@data_option
def get(prediction_id: str, output: str | None, data: Path) -> None:
    """One prediction as JSON, or its pictures as files.

    \b
    darkroom get 01kxyz… -o circle.png
    """
    from cli.client.pictures import save_all
    from cli.client.tables import echo_json
    from storage.errors import OperatorError

    server = find_server(data)
    prediction = server.get(prediction_path(prediction_id))
    if output is None:
        echo_json(prediction)
        return
    if not prediction["output"]:
        raise OperatorError(f"{prediction_id} is {prediction['status']} and has no pictures.")
    for path in save_all(server, prediction, output):
        click.echo(path)


@click.command("watch")
@id_argument
@json_option
@data_option
def watch(prediction_id: str, as_json: bool, data: Path) -> None:
    """Follow a prediction to its end; leaving does not cancel it. With --json, one event a line.

    Exit codes: 0 succeeded, 1 failed or canceled, 2 no such prediction or no server.
    """
    from cli.client.events import follow
    from cli.client.progress import progress_line, waiting_words
    from cli.client.tables import echo_json, plain

    server = find_server(data)
    with progress_line(quiet=as_json) as line:
        for event, told in follow(server, prediction_id):
            if as_json:
                echo_json({"event": event, "data": told}, indent=None)
            elif line is not None:
                line.tell(event, told)
            elif event in ("queued", "loading"):
                click.echo(waiting_words(event, told))
            elif event == "progress":
                click.echo(f"step {told['step']} of {told['steps']}")
            if event == "done":
                prediction = told
    if not as_json:
        said = prediction.get("error") or ", ".join(prediction["output"] or [])
        click.echo(f"{prediction['status']}: {plain(said)}")
    if prediction["status"] != "succeeded":
        sys.exit(1)


@click.command("cancel")
@click.argument("prediction_ids", nargs=-1, required=True, metavar="ID…")
@json_option
@data_option
def cancel(prediction_ids: tuple[str, ...], as_json: bool, data: Path) -> None:
    """Cancel predictions. One that has ended stays as it is."""
    _each(prediction_ids, "cancel", as_json, data)


@click.command("keep")
@click.argument("prediction_ids", nargs=-1, required=True, metavar="ID…")
@click.option("--not", "undo", is_flag=True, help="Let retention have them again.")
@json_option
@data_option
def keep(prediction_ids: tuple[str, ...], undo: bool, as_json: bool, data: Path) -> None:
    """Keep predictions when their time (RETENTION_S) is over."""
    _each(prediction_ids, "keep", as_json, data, body={"keep": not undo})


@click.command("delete")
@click.argument("prediction_ids", nargs=-1, required=True, metavar="ID…")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@data_option
def delete(prediction_ids: tuple[str, ...], yes: bool, data: Path) -> None:
    """Delete predictions with their pictures, for good."""
    server = find_server(data)
    if not yes:
        what = prediction_ids[0] if len(prediction_ids) == 1 else f"{len(prediction_ids)} predictions"
        click.confirm(f"Delete {what} with the pictures, for good?", abort=True, err=True)
    for prediction_id in prediction_ids:
        server.delete(prediction_path(prediction_id))
        click.echo(f"deleted {prediction_id}")


def _each(prediction_ids: tuple[str, ...], what: str, as_json: bool, data: Path, *, body: Any = None) -> None:
    from cli.client.tables import echo_json

    server = find_server(data)
    answers = [server.post(prediction_path(prediction_id, what), body) for prediction_id in prediction_ids]
    if as_json:
        echo_json(answers)
        return
    for answer in answers:
        click.echo(f"{answer['id']}  {answer['status']}{'  kept' if answer.get('keep') else ''}")


def _minute(timestamp: str) -> str:
    """2026-01-02 15:04 for people; in a pipe the whole of it."""
    return timestamp[:16].replace("T", " ") if sys.stdout.isatty() else timestamp


def _cursor_of(url: str | None) -> str | None:
    from urllib.parse import parse_qs, urlsplit

    return None if url is None else parse_qs(urlsplit(url).query)["cursor"][0]
