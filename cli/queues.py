"""`darkroom queues`: the queue of each model, for what scales workers by its length."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("queues")
@click.option(
    "--models",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="MODELS",
    default="models.toml",
    show_default=True,
    help="The catalog.",
)
def command(models: Path) -> None:
    """List the models of the catalog with their queues, one a line. It asks no database."""
    from storage.catalog import load_catalog

    catalog = load_catalog(models)
    width = max(len(name) for name in catalog.models)
    for name, model in catalog.models.items():
        click.echo(f"{name:<{width}}  {model.queue_name}")
