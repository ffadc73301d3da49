"""`darkroom queues`: the queue of each model, for what scales workers by its length."""

from __future__ import annotations

from pathlib import Path

import click

from cli.json_option import json_option


@click.command("queues")
@click.option(
    "--models",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="MODELS",
    help="The catalog; default: that of a `darkroom up` running on --data, else models.toml here.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".darkroom"),
    show_default=True,
    help="The folder of a running `darkroom up`.",
)
@json_option
def command(models: Path | None, data: Path, as_json: bool) -> None:
    """List the models of the catalog with their queues, one a line. It asks no database: `status` shows what waits."""
    from cli.client.tables import echo_json
    from storage.catalog import load_catalog

    catalog = load_catalog(models or _catalog(data))
    if as_json:
        echo_json({name: model.queue_name for name, model in catalog.models.items()})
        return
    width = max(len(name) for name in catalog.models)
    for name, model in catalog.models.items():
        click.echo(f"{name:<{width}}  {model.queue_name}")


def _catalog(data: Path) -> Path:
    from cli.supervision.data_folder import DataFolder
    from storage.errors import OperatorError

    here = Path("models.toml")
    found = DataFolder(data).catalog_in_use() or (here if here.exists() else None)
    if found is None:
        raise OperatorError(
            f"No `darkroom up` runs on {data} and there is no models.toml here: name its folder with --data,"
            " or the catalog with --models (or MODELS)."
        )
    return found
