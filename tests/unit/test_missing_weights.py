"""What `darkroom up` says at its start of models whose weights are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.up.missing_weights import missing_weights
from storage.catalog import load_catalog
from tests.conftest import REPOSITORY


def lines(tmp_path: Path, *entries: str) -> list[str]:
    catalog = tmp_path / "models.toml"
    catalog.write_text("\n".join(f'[models."a/model{number}"]\n{entry}' for number, entry in enumerate(entries)))
    return missing_weights(load_catalog(catalog))


@pytest.mark.parametrize("source", ["/nowhere/at/all", "./weights", "../weights", "~/no-such-folder-of-mine"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, source: str) -> None:
    [line] = lines(tmp_path, f'source = "{source}"')
    assert line.startswith("a/model0 can't be drawn: there is no folder ")
    assert line.endswith("check `source` in models.toml")


def test_a_folder_that_holds_no_model_or_half_of_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    half.mkdir()
    (half / "model_index.json").write_text(json.dumps({"_class_name": "X", "vae": ["diffusers", "AutoencoderKL"]}))
    first, second = lines(tmp_path, 'source = "empty"', 'source = "half"')
    assert "is no diffusers folder" in first
    assert "has no vae: the download is not complete" in second


def test_a_gguf_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = REPOSITORY / "models" / "pocket"
    [line] = lines(tmp_path, f'source = "{source}"\ndevice = {{ gguf = "transformer.gguf" }}')
    assert "there is no file" in line
    assert "transformer.gguf" in line


def test_hub_ids_blank_models_and_folders_that_are_whole_are_not(tmp_path: Path) -> None:
    whole = f'source = "{REPOSITORY / "models" / "pocket"}"'
    assert lines(tmp_path, 'source = "Tongyi-MAI/Z-Image-Turbo"', 'engine = "blank"', whole) == []
