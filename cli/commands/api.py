"""`darkroom api`: gunicorn, in this very process, so that `ps` shows the role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.number_options import WholeNumber


@click.command("api")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=WholeNumber(1, 65535), default=8000, show_default=True)
def command(host: str, port: int) -> None:
    """Answer HTTP: submit, read, cancel, stream."""
    from gunicorn.app.base import Application
    from gunicorn.errors import AppImportError

    import api
    from api.server.import_ahead import import_ahead
    from api.settings import ApiSettings
    from cli.error_line import error_line
    from cli.up.address import host_and_port, require_tokens
    from storage.catalog import load_catalog
    from storage.errors import OperatorError
    from storage.postgres.schema_revision import check

    settings = ApiSettings()
    load_catalog(settings.models)
    check(settings)
    require_tokens(host, settings)
    bind = host_and_port(host, port)
    # No webhook comes back to us, on whichever of our addresses.
    settings = settings.model_copy(update={"webhook_deny": f"{settings.webhook_deny},{bind}"})

    class Api(Application):  # type: ignore[misc] # gunicorn has no types
        """Gunicorn without its own command line."""

        def load_config(self) -> None:
            self.load_config_from_file(str(Path(api.__file__).parent / "server" / "gunicorn.conf.py"))
            self.cfg.set("bind", bind)
            self.cfg.set("control_socket_disable", True)
            self.cfg.set("proc_name", "darkroom api")

        def load(self) -> Any:
            from api.app import create_app

            try:
                return create_app(settings, bound_to=host)
            except OperatorError as error:
                raise AppImportError(error_line(error)) from None  # which gunicorn prints without a traceback

    import_ahead()
    Api().run()
