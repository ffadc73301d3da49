"""Pictures of a prediction: into files, and onto the terminal."""

from __future__ import annotations

import base64
import io
import mimetypes
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cli.client.server import Server
from storage.errors import OperatorError

STDOUT = "-"
MOST_COLUMNS, MOST_ROWS = 40, 20  # of a picture in the terminal


def save_all(server: Server, prediction: dict[str, Any], target: str | None) -> list[str]:
    """Save the outputs of a prediction and return where. Raises OperatorError.

    `target`: a file (with `-1`, `-2`, … before its extension if there are several), a folder (made if it ends with a
    slash), `-` for standard output, or None: `{id}.{ext}` here.
    """
    outputs: list[str] = prediction["output"] or []
    contents = [server.file(url) for url in outputs]
    if target == STDOUT:
        for content in contents:
            sys.stdout.buffer.write(content)
        return []
    saved = []
    for index, (url, content) in enumerate(zip(outputs, contents, strict=True)):
        try:
            path = _path_of(prediction["id"], url, target, index, len(outputs))
            path.write_bytes(content)
        except OSError as error:
            raise OperatorError(
                f"{error.filename} can't be written: {error.strerror}. The picture is at {url}"
            ) from None
        saved.append(str(path))
    return saved


def picture_url(given: str) -> str:
    """What an input `image` or `mask` takes: a URL as it is, a file as a data: URL. Raises OperatorError."""
    if given.startswith(("http://", "https://", "data:")):
        return given
    if not given:
        raise OperatorError("The name of a picture is empty: give a file or an https URL.")
    try:
        content = Path(given).expanduser().read_bytes()
    except OSError as error:
        raise OperatorError(f"{given} can't be read: {error.strerror}.") from None
    content_type = mimetypes.guess_type(given)[0] or "image/png"  # the server looks at the bytes
    return f"data:{content_type};base64,{base64.b64encode(content).decode()}"


def show_all(paths: list[str]) -> None:
    """Draw the pictures in the terminal, as well as it can (kitty, sixel, half blocks); nothing if it isn't one."""
    if not sys.stdout.isatty() or 0 in os.get_terminal_size():  # a terminal without a size: docker exec, some CI
        return
    from PIL import Image as PillowImage
    from rich.console import Console
    from textual_image import renderable

    console = Console()
    for path in paths:
        with PillowImage.open(io.BytesIO(Path(path).read_bytes())) as picture:
            # A cell is about twice as high as it is wide.
            is_wide = picture.width * 2 * MOST_ROWS >= picture.height * MOST_COLUMNS
            columns, rows = (min(MOST_COLUMNS, console.width), "auto") if is_wide else ("auto", MOST_ROWS)
            console.print(renderable.Image(picture.convert("RGB"), width=columns, height=rows))


def _path_of(prediction_id: str, url: str, target: str | None, index: int, count: int) -> Path:
    extension = Path(urlsplit(url).path).suffix or ".png"
    number = f"-{index + 1}" if count > 1 else ""
    if target is not None and target.endswith("/"):
        Path(target).mkdir(parents=True, exist_ok=True)
    if target is None or Path(target).is_dir():
        return Path(target or ".") / f"{prediction_id}{number}{extension}"
    path = Path(target)
    return path.with_name(f"{path.stem}{number}{path.suffix or extension}")
