"""The tools: draw, edit, list, read, cancel. Each call is a request to the Darkroom API with the caller's token."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.from_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ContentBlock, ImageContent, TextContent

from cli.client.events import ENDED, follow
from cli.client.progress import waiting_words
from cli.client.server import Server, prediction_path
from storage.errors import OperatorError
from storage.formats import FORMATS

# Clients put pictures into the model's context: larger ones are given as links.
MAX_PICTURE_BYTES = 1_000_000
MOST_LISTED = 50
CONTENT_TYPES = {known.name: known.content_type for known in FORMATS}

Result = TypeVar("Result")
ServerOf = Callable[[Context[Any, Any]], Server]


def mcp_server(server_of: ServerOf, version: str) -> MCPServer[Any]:
    """`server_of`: returns the Darkroom server for a call, with the caller's token."""
    mcp: MCPServer[Any] = MCPServer(
        "darkroom",
        instructions="Draws pictures from a text on the user's own GPUs. A drawing takes seconds; the first after a"
        " pause takes longer, because a worker has to start.",
        version=version,
        log_level="WARNING",
    )

    @mcp.tool()
    async def generate_image(
        prompt: str,
        ctx: Context[Any, Any],
        model: str | None = None,
        number: int = 1,
        size: str | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
    ) -> list[ContentBlock]:
        """Draw pictures of a prompt. size is WIDTHxHEIGHT, such as 1024x768; the same seed draws the same picture."""
        asked = {"num_outputs": number, "size": size, "seed": seed, "negative_prompt": negative_prompt}
        return await _draw(server_of(ctx), ctx, model, {"prompt": prompt} | asked)

    @mcp.tool()
    async def edit_image(
        prompt: str,
        image: str | list[str],
        ctx: Context[Any, Any],
        mask: str | None = None,
        strength: float | None = None,
        model: str | None = None,
        seed: int | None = None,
    ) -> list[ContentBlock]:
        """Draw a picture from another one. image and mask are https or data URLs, such as those of get_image.

        Some models look at several images: then image is a list.

        strength, above 0 and at most 1, says how much is redrawn; what is white in the mask is redrawn, black
        stays.
        """
        asked = {"image": image, "mask": mask, "strength": strength, "seed": seed}
        return await _draw(server_of(ctx), ctx, model, {"prompt": prompt} | asked)

    @mcp.tool()
    async def list_images(ctx: Context[Any, Any], search: str | None = None, number: int = 10) -> str:
        """The newest predictions as JSON: id, status, prompt, URLs of the pictures. search: words of the prompt."""
        server = server_of(ctx)
        limit = max(1, min(number, MOST_LISTED))
        page = await _in_thread(lambda: server.get("/v1/predictions", q=search, limit=limit))
        found = [
            {
                "id": each["id"],
                "status": each["status"],
                "created_at": each["created_at"],
                "prompt": (each["input"] or {}).get("prompt"),
                "output": each["output"],
            }
            for each in page["results"]
        ]
        return json.dumps(found, ensure_ascii=False)

    @mcp.tool()
    async def get_image(prediction_id: str, ctx: Context[Any, Any]) -> list[ContentBlock]:
        """The state of a prediction and its pictures."""
        server = server_of(ctx)
        prediction = await _in_thread(lambda: server.get(prediction_path(prediction_id)))
        return await _in_thread(lambda: _contents(server, prediction))

    @mcp.tool()
    async def cancel(prediction_id: str, ctx: Context[Any, Any]) -> str:
        """Cancel a prediction that has not ended."""
        server = server_of(ctx)
        prediction = await _in_thread(lambda: server.post(prediction_path(prediction_id, "cancel")))
        return f"{prediction['id']} is {prediction['status']}"

    return mcp


async def _draw(server: Server, ctx: Context[Any, Any], model: str | None, asked: dict[str, Any]) -> list[ContentBlock]:
    """Submit, report progress, and return the pictures. A cancelled call cancels the prediction."""
    given = {name: value for name, value in asked.items() if value is not None}
    name = model or await _in_thread(server.first_model)
    prediction = await _in_thread(lambda: server.post("/v1/predictions", {"model": name, "input": given}))

    def wait() -> dict[str, Any]:
        found: dict[str, Any] = prediction
        if found["status"] in ENDED:
            return found
        for event, data in follow(server, prediction["id"]):
            if event == "done":
                found = data
            elif event == "progress":
                text = f"step {data['step']} of {data['steps']}"
                anyio.from_thread.run(ctx.report_progress, data["step"], data["steps"], text)
            elif event in ("queued", "loading"):
                anyio.from_thread.run(ctx.report_progress, 0, None, waiting_words(event, data))
        return found

    try:
        ended = await anyio.to_thread.run_sync(wait, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await _in_thread(lambda: server.post(prediction_path(prediction["id"], "cancel")))
        raise
    except OperatorError as error:
        raise ToolError(str(error)) from None
    if ended["status"] != "succeeded":
        raise ToolError(f"{ended['id']} {ended['status']}: {ended['error'] or 'no reason is known'}")
    return await _in_thread(lambda: _contents(server, ended))


def _contents(server: Server, prediction: dict[str, Any]) -> list[ContentBlock]:
    """Words about a prediction, and its pictures: small ones as such, large ones as links."""
    outputs: list[str] = prediction["output"] or []
    about = f"{prediction['id']} {prediction['status']}"
    blocks: list[ContentBlock] = [TextContent(type="text", text="\n".join([about, *outputs]))]
    for url in outputs:
        content = server.file(url)
        extension = url.partition("?")[0].rpartition(".")[2]
        if len(content) <= MAX_PICTURE_BYTES and extension in CONTENT_TYPES:
            data = base64.b64encode(content).decode()
            blocks.append(ImageContent(type="image", data=data, mime_type=CONTENT_TYPES[extension]))
    return blocks


async def _in_thread(call: Callable[[], Result]) -> Result:
    """The client blocks, so it runs beside the loop; what the server refuses becomes the tool's error."""
    try:
        return await anyio.to_thread.run_sync(call)
    except OperatorError as error:
        raise ToolError(str(error)) from None
