"""`darkroom generate` as people run it: a process of its own against a running service."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

from PIL import Image

from tests.clients.darkroom_command import darkroom, text_of
from tests.support.serving import Service


def test_a_picture_is_drawn_and_saved_and_its_file_is_named(service: Service, tmp_path: Path) -> None:
    assert text_of(darkroom(service, tmp_path, "generate", "a red circle", "-o", "circle.jpg")) == "circle.jpg"
    with Image.open(tmp_path / "circle.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 64))


def test_several_pictures_are_numbered(service: Service, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    named = text_of(darkroom(service, tmp_path, "generate", "a boat", "-n", "3", "-o", "pictures")).splitlines()
    assert [Path(each).name[26:] for each in named] == ["-1.png", "-2.png", "-3.png"]
    assert all((tmp_path / each).is_file() for each in named)
    assert text_of(darkroom(service, tmp_path, "generate", "a boat", "-n", "2", "-o", "b.webp")).split() == [
        "b-1.webp",
        "b-2.webp",
    ]


def test_standard_output_gets_the_bytes_alone(service: Service, tmp_path: Path) -> None:
    done = darkroom(service, tmp_path, "generate", "a boat", "-o", "-")
    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(io.BytesIO(done.stdout)) as picture:
        assert picture.format == "PNG"
    assert list(tmp_path.iterdir()) == []


def test_all_inputs_reach_the_server(service: Service, tmp_path: Path) -> None:
    words = ["--seed", "7", "--size", "128x64", "--steps", "3", "--guidance", "1.5", "--negative-prompt", "rain"]
    words += ["-i", "output_quality=50", "-i", "aspect_ratio=1:1", "-m", "dall-e-3", "--json"]
    done = json.loads(text_of(darkroom(service, tmp_path, "generate", "a boat", *words)))
    assert done["status"] == "succeeded"
    assert done["input"] == {
        "prompt": "a boat",
        "seed": 7,
        "size": "128x64",
        "num_inference_steps": 3,
        "guidance_scale": 1.5,
        "negative_prompt": "rain",
        "output_quality": 50,
        "aspect_ratio": "1:1",
    }
    assert list(tmp_path.iterdir()) == []  # with --json, only -o saves


def test_a_file_is_sent_as_the_start_image_and_a_mask(service: Service, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "blue.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "all.png")
    words = ["--image", "blue.png", "--mask", "all.png", "--strength", "0.5", "--json"]
    done = json.loads(text_of(darkroom(service, tmp_path, "generate", "a boat", *words)))
    assert done["status"] == "succeeded"
    assert done["input"]["strength"] == 0.5
    assert "image/png" in done["input"]["image"]
    several = ["-m", "darkroom/slow", "--steps", "1", "--image", "blue.png", "--image", "all.png", "--json"]
    done = json.loads(text_of(darkroom(service, tmp_path, "generate", "two boats", *several)))
    assert (done["status"], len(done["input"]["images"])) == ("succeeded", 2)
    missing = darkroom(service, tmp_path, "generate", "a boat", "--image", "none.png")
    assert (missing.returncode, b"none.png can't be read" in missing.stderr) == (2, True)


def test_pictures_that_cant_be_sent_or_are_too_many_are_refused_with_the_reason(
    service: Service, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "b.png")
    several = darkroom(
        service, tmp_path, "generate", "a boat", "-m", "darkroom/blank", "--image", "a.png", "--image", "b.png"
    )
    assert (several.returncode, several.stdout) == (2, b"")
    assert "2 images were sent; darkroom/blank takes one image" in several.stderr.decode()
    for option in ("--image", "--mask"):
        empty = darkroom(service, tmp_path, "generate", "a boat", option, "")
        assert (empty.returncode, empty.stdout) == (2, b"")
        assert "The name of a picture is empty" in empty.stderr.decode()


def test_loras_are_asked_for_by_name_with_their_scale(service: Service, tmp_path: Path) -> None:
    def sent(*loras: str) -> subprocess.CompletedProcess[bytes]:
        words = [word for lora in loras for word in ("--lora", lora)]
        return darkroom(service, tmp_path, "generate", "a boat", "-m", "darkroom/nobody", "--detach", "--json", *words)

    asked = json.loads(text_of(sent("outlined:0.5", "pastel")))["input"]
    assert asked["loras"] == [{"name": "outlined", "scale": 0.5}, {"name": "pastel"}]
    assert "loras" not in json.loads(text_of(sent()))["input"]
    # The last: a URL has colons itself, and is the API's to judge.
    for given, reason in {
        "ink": "no LoRA 'ink': it has outlined, pastel",
        "outlined:9": "input.loras.0.scale: Input should be less than or equal to 4",
        "outlined:strong": "'strong' is no number",
        "outlined:nan": "'nan' is no number",
        "outlined:": "'' is no number",
        ":0.5": "the name is empty",
        "": "the name is empty",
        "https://example.com:8443/a.safetensors": "LORA_ALLOW",
        "https://example.com/a.safetensors:0.5": "LORA_ALLOW",
    }.items():
        refused = sent(given)
        assert (refused.returncode, refused.stdout) == (2, b""), given
        assert reason in refused.stderr.decode(), refused.stderr.decode()
