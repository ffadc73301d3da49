"""`darkroom mcp`: tools for language models, over standard input and output, or HTTP."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.client.server import Server, data_option, find_server
from cli.number_options import WholeNumber

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context


@click.command("mcp")
@click.option("--http", "over_http", is_flag=True, help="Streamable HTTP at /mcp instead of standard input and output.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=WholeNumber(1, 65535), default=8800, show_default=True)
@data_option
def command(over_http: bool, host: str, port: int, data: Path) -> None:
    """Serve the tools generate_image, edit_image, list_images, get_image and cancel (Model Context Protocol).

    Over standard input and output it uses DARKROOM_TOKEN. Over HTTP it has no token of its own: it passes on the
    `Authorization` header of each caller, so that no caller uses another one's token.

    \b
    {"mcpServers": {"darkroom": {"command": "darkroom", "args": ["mcp"],
      "env": {"DARKROOM_URL": "https://draw.example.com", "DARKROOM_TOKEN": "dr_…"}}}}
    """
    from storage.errors import OperatorError

    try:
        from cli.mcp.tools import mcp_server
    except ImportError as error:
        raise OperatorError(f"`darkroom mcp` needs a package: `pip install -c constraints.txt mcp` ({error})") from None

    found = find_server(data)
    if not over_http:
        mcp_server(lambda _: found, version("darkroom")).run("stdio")
        return

    def server_of(ctx: Context[Any, Any]) -> Server:
        scheme, _, given = (ctx.headers or {}).get("authorization", "").partition(" ")
        return Server(found.url, given.strip() if scheme.lower() == "bearer" else "")

    mcp_server(server_of, version("darkroom")).run("streamable-http", host=host, port=port)
