"""A picture goes in and another one comes out, through all roles: drawn, masked, drawn again from its own URL."""

from __future__ import annotations

import io
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from tests.acceptance.running_up import REPOSITORY, RunningUp, up
from tests.pictures import data_url, file_of, picture

pytestmark = pytest.mark.timeout(300)

SIDE = 128  # of the pocket model
KEPT = (0, 0, SIDE, SIDE // 2)  # the upper half
REPAINTED = (0, SIDE // 2, SIDE, SIDE)


def drawn(running: RunningUp, **inputs: Any) -> tuple[str, Image.Image]:
    """The URL of the picture and the picture."""
    status, made = running.request("POST", "/v1/predictions", {"model": "darkroom/pocket", "input": inputs})
    assert status == 201, made
    assert running.wait_for_status(made["id"], "succeeded", "failed", timeout_s=120) == "succeeded"
    _, made = running.request("GET", f"/v1/predictions/{made['id']}")
    [url] = made["output"]
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (our own service)
        return url, Image.open(io.BytesIO(answer.read())).convert("RGB")


def test_what_a_mask_keeps_is_the_source_pixel_for_pixel_and_the_rest_is_drawn_anew(folder: Path) -> None:
    (folder / "models.toml").write_text(
        (REPOSITORY / "models.toml").read_text().replace('"./models/', f'"{REPOSITORY}/models/')
    )
    mask = picture(SIDE, SIDE, "black", "L")
    mask.paste(255, REPAINTED)
    with up(folder) as running:
        url, source = drawn(running, prompt="a blue circle on a white background", seed=1)
        _, edited = drawn(
            running, prompt="a red square on a white background", seed=2, image=url, mask=data_url(file_of(mask))
        )
        _, slight = drawn(running, prompt="a blue circle on a white background", seed=3, image=url, strength=0.3)
    assert ImageChops.difference(source.crop(KEPT), edited.crop(KEPT)).getbbox() is None
    assert ImageChops.difference(source.crop(REPAINTED), edited.crop(REPAINTED)).getbbox() is not None
    assert mean_difference(source, slight) < 40, "most of the source is left at a strength of 0.3"


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    """Of a pixel's grey, 0 to 255."""
    histogram = ImageChops.difference(one, other).convert("L").histogram()
    return sum(value * count for value, count in enumerate(histogram)) / sum(histogram)
