"""What a picture in a request costs the API: the answer to its POST, its storing, its memory, and others meanwhile.

    python -m bench.input_images [--rounds 20] [--write]

The picture is a JPEG of about 5 MB and 12 million pixels. Each way to send it is timed beside a POST without a picture;
then the same text POSTs are timed while 8 clients send pictures without a pause, and the memory of the API is watched
while 64 clients send one at the same time. No worker runs.
"""

from __future__ import annotations

import io
import json
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import requests
from PIL import Image

from bench.command import CommandLine, own_servers, publish
from bench.report import machine
from tests.pictures import data_url, file_of
from tests.support.receivers import Answer, Receiver
from tests.support.serving import Service, serving

BESIDE = 8
# Ways to write the picture, in the size in which it is stored for a drawing of 1024 x 768.
STORED = (2048, 1536)
ENCODINGS: dict[str, dict[str, Any]] = {
    "PNG level 1, RLE (used)": {"format": "PNG", "compress_level": 1, "compress_type": zlib.Z_RLE},
    "PNG level 1": {"format": "PNG", "compress_level": 1},
    "PNG level 6": {"format": "PNG"},
    "PNG without compression": {"format": "PNG", "compress_level": 0},
    "WebP without loss, level 0": {"format": "WEBP", "lossless": True, "quality": 0, "method": 0},
}


def photo(width: int) -> Image.Image:
    """Soft shapes with the grain of a photograph."""
    size = (width, 3 * width // 4)
    soft = Image.effect_noise((40, 30), 90).resize(size, Image.Resampling.BICUBIC)
    bands = [Image.blend(soft, Image.effect_noise(size, 60), 0.12) for _ in range(3)]
    return Image.merge("RGB", bands)


def took_ms(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - begin)


def post(service: Service, **inputs: Any) -> None:
    body = json.dumps({"model": "darkroom/blank", "input": {"prompt": "a"} | inputs})
    answer = requests.post(
        f"{service.url}/v1/predictions", data=body, headers={"Content-Type": "application/json"}, timeout=120
    )
    assert answer.status_code == 201, answer.text


def upload(service: Service, data: bytes) -> str:
    answer = requests.post(
        f"{service.url}/v1/files", files={"content": ("a.jpg", io.BytesIO(data), "image/jpeg")}, timeout=120
    )
    return str(answer.json()["urls"]["get"])


def answers(service: Service, data: bytes, receiver: Receiver, rounds: int) -> list[str]:
    inline, by_file = data_url(data, "image/jpeg"), upload(service, data)
    ways: dict[str, Callable[[], object]] = {
        "no picture": lambda: post(service),
        "`data:` URL": lambda: post(service, image=inline),
        "URL of a server on this machine": lambda: post(service, image=receiver.url),
        "uploaded file": lambda: post(service, image=by_file),
        "the upload itself (`POST /v1/files`)": lambda: upload(service, data),
    }
    for way in ways.values():
        way()
    times = {name: [took_ms(way) for _ in range(rounds)] for name, way in ways.items()}
    rows = [f"| {name} | {median(each):.0f} | {max(each):.0f} |" for name, each in times.items()]
    return ["| a POST with | median ms | slowest ms |", "|---|---|---|", *rows]


def beside(service: Service, data: bytes, rounds: int) -> str:
    inline, over = data_url(data, "image/jpeg"), threading.Event()

    def send() -> None:
        while not over.is_set():
            post(service, image=inline)

    with ThreadPoolExecutor(BESIDE) as pool:
        sending = [pool.submit(send) for _ in range(BESIDE)]
        times = [took_ms(lambda: post(service)) for _ in range(rounds)]
        over.set()
        for each in sending:
            each.result()
    return f"A POST without a picture while {BESIDE} clients send pictures without a pause: {median(times):.0f} ms."


def memory(service: Service, data: bytes, at_once: int) -> str:
    [api] = [
        child for child in psutil.Process().children(recursive=True)
        if service.url.rpartition(":")[2] in child.cmdline() and not child.children()
    ]  # fmt: skip
    inline, before, peak, over = data_url(data, "image/jpeg"), api.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], api.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda _: post(service, image=inline), range(at_once)))
    over.set()
    watching.join()
    grown = max(0, peak[0] - before) / 2**20
    return f"{at_once} such pictures at once: {grown:.0f} MiB more than the {before / 2**20:.0f} MiB before."


def encodings(image: Image.Image, rounds: int) -> list[str]:
    width, height = min(STORED, image.size)
    small, rows = image.resize((width, height), Image.Resampling.LANCZOS), []
    for name, options in ENCODINGS.items():
        took = median(took_ms(partial(small.save, io.BytesIO(), **options)) for _ in range(rounds))
        size = len(file_of(small, options["format"], **{k: v for k, v in options.items() if k != "format"}))
        rows.append(f"| {name} | {took:.0f} | {size / 1e6:.1f} |")
    return [f"| {width}x{height} as | median ms | MB |", "|---|---|---|", *rows]


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--rounds", 20, quick=2)
    options.size("--width", 4000, quick=400, explanation="of the picture, in pixels")
    options.size("--at-once", 64, quick=4, explanation="clients that send one at the same time")
    given = options.read()
    before, image = machine(), photo(given.width)
    data = file_of(image, "JPEG", quality=93)
    with ExitStack() as stack:
        servers = stack.enter_context(own_servers())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = stack.enter_context(Receiver().serving())
        receiver.answer = lambda _: Answer(200, {"Content-Type": "image/jpeg"}, data)
        service = stack.enter_context(
            serving(servers, folder, workers=False, input_image_allow="127.0.0.1", api_log=folder / "log")
        )
        lines = [
            f"A JPEG of {image.width}x{image.height} pixels, {len(data) / 1e6:.1f} MB; {given.rounds} of each.",
            "",
            *answers(service, data, receiver, given.rounds),
            "",
            beside(service, data, given.rounds),
            memory(service, data, given.at_once),
            "",
            *encodings(image, max(3, given.rounds // 4)),
        ]
    publish("input_images", "\n".join(lines), before, write=given.write)


if __name__ == "__main__":
    main()
