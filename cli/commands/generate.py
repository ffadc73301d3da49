"""`darkroom generate`: draw a picture, watch it come, and save it."""

from __future__ import annotations

import json
import math
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import click

from cli.client.server import data_option, find_server, prediction_path
from cli.json_option import json_option

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@click.command("generate")
@click.argument("prompt")
@click.option(
    "-o",
    "--output",
    help="A file, a folder (with a /), or - for standard output. Default: a file here, named by the id.",
)
@click.option("-n", "--number", type=int, help="How many pictures.")
@click.option("-m", "--model", help="owner/name. Default: the only one, or the first that the server lists.")
@click.option("--seed", type=int, help="The same seed draws the same picture.")
@click.option("--size", metavar="WxH", help="Such as 1024x768.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", type=float, help="Classifier-free guidance; 0 is none.")
@click.option("--negative-prompt", metavar="TEXT", help="What shall not be in the picture.")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="FILE",
    help="A start image: a file or an https URL. For models that take one; again for each, if they take several.",
)
@click.option("--mask", metavar="FILE", help="What is white in it is redrawn, what is black stays.")
@click.option("--strength", type=float, help="How much of the start image is redrawn: above 0, at most 1.")
@click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="NAME[:SCALE]",
    help="A LoRA of the model, or an https URL of one; again for each. Default scale: the LoRA's own.",
)
@click.option("--format", "output_format", help="png, jpeg or webp. Default: by the name of the file, else png.")
@click.option("-i", "--input", "others", multiple=True, metavar="NAME=VALUE", help="Any other input of the model.")
@click.option("--webhook", metavar="URL", help="Told when it has ended.")
@click.option("--detach", is_flag=True, help="Send it, write its id, and leave.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no picture in the terminal.")
@json_option
@data_option
def command(
    prompt: str,
    output: str | None,
    number: int | None,
    model: str | None,
    seed: int | None,
    size: str | None,
    steps: int | None,
    guidance: float | None,
    negative_prompt: str | None,
    images: tuple[str, ...],
    mask: str | None,
    strength: float | None,
    loras: tuple[str, ...],
    output_format: str | None,
    others: tuple[str, ...],
    webhook: str | None,
    detach: bool,
    quiet: bool,
    as_json: bool,
    data: Path,
) -> None:
    """Draw PROMPT, watch it come, and save it. The name of each file is written to standard output.

    Ctrl-C cancels it. Exit codes: 0 saved, 1 failed or canceled, 2 refused or no server, 130 Ctrl-C.

    \b
    darkroom generate "a red circle on a blue background" -o circle.png
    darkroom generate "a lighthouse" -n 4 --seed 7 -o pictures/
    darkroom generate "a red circle" --image blue.png --strength 0.8 -o red.png
    darkroom generate "a lighthouse" --json | jq -r '.output[0]'
    DARKROOM_URL=https://draw.example.com DARKROOM_TOKEN=… darkroom generate "a boat" -o -  > boat.png
    """
    from cli.client.pictures import picture_url, save_all, show_all
    from cli.client.tables import echo_json, plain

    server = find_server(data)
    asked: dict[str, Any] = {
        "prompt": prompt,
        "num_outputs": number,
        "seed": seed,
        "size": size,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative_prompt,
        "image": picture_url(images[0]) if len(images) == 1 else None,
        "images": [picture_url(image) for image in images] if len(images) > 1 else None,
        "mask": None if mask is None else picture_url(mask),
        "strength": strength,
        "loras": [_lora(each) for each in loras] or None,
        "output_format": output_format or _format_of(output),
        **dict(map(_pair, others)),
    }
    body: dict[str, Any] = {
        "model": model or server.first_model(),
        "input": {name: value for name, value in asked.items() if value is not None},
    }
    if webhook:
        body["webhook"] = webhook
    prediction = server.post("/v1/predictions", body, **{"Idempotency-Key": str(uuid.uuid4())})
    if detach:
        echo_json(prediction) if as_json else click.echo(prediction["id"])
        return
    prediction = _wait(server, prediction, quiet=quiet or as_json)
    saved = (
        save_all(server, prediction, output) if prediction["status"] == "succeeded" and _saves(output, as_json) else []
    )
    if as_json:
        echo_json(prediction)
    if prediction["status"] != "succeeded":
        reason = plain(prediction.get("error") or "no reason is known")
        click.echo(f"darkroom: {prediction['status']}: {reason}", err=True)
        sys.exit(EXIT_FAILED)
    if not as_json:
        for path in saved:
            click.echo(path)
        if not quiet:
            show_all(saved)


def _wait(server: Any, prediction: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """The prediction when it has ended. Ctrl-C cancels it and ends the program."""
    from cli.client.events import ENDED, follow
    from cli.client.progress import progress_line

    if prediction["status"] in ENDED:
        return prediction
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with progress_line(quiet=quiet) as line:
            for event, told in follow(server, prediction["id"]):
                if event == "done":
                    prediction = told
                elif line is not None:
                    line.tell(event, told)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends us at once
        server.post(prediction_path(prediction["id"], "cancel"))
        click.echo(f"darkroom: canceled {prediction['id']}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    return prediction


def _saves(output: str | None, as_json: bool) -> bool:
    """With --json, files are written only where -o says so."""
    return output is not None or not as_json


def _format_of(output: str | None) -> str | None:
    """By the file's name; the server says what it doesn't know."""
    return Path(output).suffix.lower().removeprefix(".") or None if output and output != "-" else None


def _lora(given: str) -> dict[str, Any]:
    """NAME[:SCALE], where NAME may be a URL, which has colons of its own, followed by slashes."""
    name, found, scale = given.rpartition(":")
    if found and _is_number(scale):
        lora = {"name": name, "scale": float(scale)}
    elif found and "/" not in scale:
        raise click.BadParameter(f"{given!r} is not NAME[:SCALE]: {scale!r} is no number", param_hint="--lora")
    else:
        lora = {"name": given}
    if not lora["name"]:
        raise click.BadParameter(f"{given!r} is not NAME[:SCALE]: the name is empty", param_hint="--lora")
    return lora


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _pair(given: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is JSON is taken as such, all else is text."""
    name, found, value = given.partition("=")
    if not found or not name:
        raise click.BadParameter(f"{given!r} is not NAME=VALUE", param_hint="--input")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
