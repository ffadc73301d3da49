"""Reading models.toml: what it means, and one clear line for what is wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.catalog import load_catalog
from storage.errors import OperatorError, UnknownModel
from storage.postgres.procrastinate import MAX_QUEUE_NAME, queue_name_of

REPOSITORY = Path(__file__).parents[2]
GOOD = """
[models."tongyi-mai/z-image-turbo"]
source = "/models/Z-Image-Turbo"
version = "2"
aliases = ["dall-e-3"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text)
    return path


def test_the_catalog_in_the_repository_can_be_read() -> None:
    pocket = load_catalog(REPOSITORY / "models.toml").find("darkroom/pocket")
    assert pocket.source == str(REPOSITORY / "models" / "pocket")


def test_a_gguf_file_lies_beside_the_catalog(tmp_path: Path) -> None:
    entry = '[models."a/b"]\nsource = "x/y"\ndevice = { gguf = "weights/some-Q4_K_M.gguf" }'
    model = load_catalog(write(tmp_path, entry)).find("a/b")
    assert model.device.gguf == str(tmp_path / "weights" / "some-Q4_K_M.gguf")


def test_a_lora_s_file_lies_beside_the_catalog_and_anything_else_is_a_hub_id(tmp_path: Path) -> None:
    entry = """
        [models."a/b"]
        source = "x/y"
        loras = { one = { source = "loras/one.safetensors" }, two = { source = "owner/repository", scale = 0.5 } }
    """
    loras = load_catalog(write(tmp_path, entry)).find("a/b").loras
    assert loras["one"].source == str(tmp_path / "loras" / "one.safetensors")
    assert (loras["two"].source, loras["two"].scale) == ("owner/repository", 0.5)
    for compiled in ("compile = true", 'preset = "fast"'):
        with pytest.raises(OperatorError, match="loras and compilation"):
            load_catalog(write(tmp_path, f"{entry}\ndevice = {{ {compiled} }}"))


@pytest.mark.parametrize(
    "reference", ["tongyi-mai/z-image-turbo", "Tongyi-MAI/Z-Image-Turbo", "tongyi-mai/z-image-turbo:2", "dall-e-3"]
)
def test_a_model_is_found_by_name_version_and_alias(tmp_path: Path, reference: str) -> None:
    assert load_catalog(write(tmp_path, GOOD)).find(reference).name == "tongyi-mai/z-image-turbo"


@pytest.mark.parametrize("reference", ["nobody/nothing", "tongyi-mai/z-image-turbo:1", "", ":", "dall-e-2"])
def test_an_unknown_model_or_version_is_said_with_what_there_is(tmp_path: Path, reference: str) -> None:
    with pytest.raises(UnknownModel, match="z-image-turbo"):
        load_catalog(write(tmp_path, GOOD)).find(reference)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no models"),
        ("models = 3", "has no models"),
        ("[models", "can't be read"),
        ('[models."UPPER/case"]\nsource = "x"', "owner/name"),
        ('[models."a/b"]', "source"),
        ('[models."a/b"]\nsource = "x"\nsuorce = "y"', "suorce: there is no such key; did you mean source?"),
        ('[models."a/b"]\nsource = "x"\nversoin = "1"', "versoin: there is no such key; did you mean version?"),
        (
            '[models."a/b"]\nsource = "x"\nlimits = { max_step = 9 }',
            "limits.max_step: there is no such key; did you mean max_steps?",
        ),
        ('[models."a/b"]\nsource = "x"\ncolour = "red"', "colour: no such key; it takes source, variant, config,"),
        ('[models."a/b"]\nsource = "x"\nblank = { speed = 1 }', "blank.speed: no such key; it takes load_s, step_s."),
        ('[model."a/b"]\nsource = "x"', "model: there is no such key; did you mean models?"),
        ('[models."a/b"]\nsource = "x"\nname = "a/c"', "name: the name stands in the header of the table."),
        (
            '[models."a/b"]\nsource = "x"\nlimits = { max_outputs = 11 }',
            "limits.max_outputs: Input should be less than",
        ),
        ('[models."a/b"]\nsource = "x"\nlimits = { max_input_images = 2 }', 'limits.max_input_images needs "image" in'),
        ('[models."a/b"]\nsource = "x"\ntakes = ["image"]\nlimits = { max_input_images = 17 }', "max_input_images"),
        (
            '[models."a/b"]\nsource = "x"\ntakes = ["image"]\nlimits = { min_input_images = 1 }\n'
            "device = { compile = true }",
            "limits.min_input_images and compilation can't be combined",
        ),
        ('[models."a/b"]\nsource = "x"\ndtype = "int4"', "dtype"),
        ('[models."a/b"]\nsource = "x"\nlimits = { max_pixels = 10 }', "breaks its own limits"),
        ("".join(f'[models."{name}/x"]\nsource = "x"\naliases = ["z"]\n' for name in "ab"), "'z'"),
        ('models."a/b" = 3', "table"),
    ],
)
def test_a_wrong_catalog_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(OperatorError) as caught:
        load_catalog(write(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_catalog_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="--models"):
        load_catalog(tmp_path / "models.toml")


def test_queue_names_are_short_readable_and_never_shared() -> None:
    names = [
        "darkroom/pocket", "tongyi-mai/z-image-turbo", "a-b/c", "a/b-c", "a.b/c", "a/b.c",
        "somebody/with-a-name-that-is-much-too-long-for-a-channel",
        "somebody/with-a-name-that-is-much-too-long-for-another",
    ]  # fmt: skip
    queues = [queue_name_of(name) for name in names]
    assert len(set(queues)) == len(names)
    assert max(map(len, queues)) <= MAX_QUEUE_NAME
    assert queues[0] == "draw-darkroom.pocket"


def test_a_model_can_be_kept_ready_at_all_times_and_more_of_it_in_some_hours(tmp_path: Path) -> None:
    entry = """
        [models."a/b"]
        engine = "blank"
        [models."a/b".warm]
        min_workers = 1
        "Mon-Fri 08:00-18:00 Europe/Berlin" = 3
        "Sat 10:00-12:00 UTC" = 0
    """
    warm = load_catalog(write(tmp_path, entry)).find("a/b").warm
    monday, saturday = datetime(2026, 1, 5, 12, tzinfo=UTC), datetime(2026, 1, 10, 11, tzinfo=UTC)
    assert (warm.min_workers_at(monday), warm.min_workers_at(saturday)) == (3, 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("min_worker = 1", "'min_worker' are no hours such as .* min_workers and hours"),
        ("min_workers = 65", "warm.min_workers: Input should be less than or equal to 64"),
        ('"Mon-Fri 08:00-18:00 Europe/Berlin" = -1', "greater than or equal to 0"),
        ('"Mon-Fri 08:00-18:00 Europe/Berln" = 1', "there is no time zone 'Europe/Berln'"),
    ],
)
def test_what_is_wrong_with_the_hours_is_said(tmp_path: Path, line: str, said: str) -> None:
    entry = f'[models."a/b"]\nengine = "blank"\n[models."a/b".warm]\n{line}\n'
    with pytest.raises(OperatorError, match=said):
        load_catalog(write(tmp_path, entry))
