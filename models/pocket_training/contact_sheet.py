"""Pictures in rows with their prompts under them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .evaluation import Result

CELL = 132
CAPTION_HEIGHT = 48
COLUMNS = 8


def save_contact_sheet(results: Sequence[Result], path: Path) -> None:
    """Draws results as they come, eight a row, at their own size, cut to what a cell holds."""
    rows = -(-len(results) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL + 4, rows * (CELL + CAPTION_HEIGHT) + 4), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=9)
    for index, result in enumerate(results):
        x, y = 4 + index % COLUMNS * CELL, 4 + index // COLUMNS * (CELL + CAPTION_HEIGHT)
        picture = Image.fromarray(result.pixels)
        picture.thumbnail((CELL - 4, CELL - 4), Image.Resampling.LANCZOS)
        sheet.paste(picture, (x + (CELL - 4 - picture.width) // 2, y + CELL - 4 - picture.height))
        lines = textwrap.wrap(result.prompt.text, 27)[:4]
        colour = (40, 40, 40) if result.all_right() else (200, 30, 30)
        pen.text((x, y + CELL - 2), "\n".join(lines), fill=colour, font=font, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
