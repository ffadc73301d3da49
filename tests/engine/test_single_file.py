"""A checkpoint in one file, read with the configuration of a folder of the same family."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from storage.catalog import Model, load_catalog
from storage.errors import OperatorError
from storage.predictions.parameters import Parameters
from tests.engine.single_files import save_in_one_file
from tests.engine.tiny_families import tiny_sana
from tests.engine.tiny_pipelines import save, tiny_stable_diffusion
from worker.engine import ModelNotLoaded, load_engine

RED = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=2, guidance_scale=3.0, seed=5)


def load(source: Path, config: Path | str = "") -> Any:
    return load_engine(Model(name="test/tiny", source=str(source), config=str(config), dtype="float32"), device="cpu")


def draw(engine: Any) -> np.ndarray[Any, Any]:
    drawing = engine.begin(RED)
    engine.step([drawing], lambda: None)
    return np.asarray(engine.decode(drawing)()[0])


def without_weights(folder: Path, copy: Path, *but: str) -> Path:
    """A folder's small files, and the weights of the parts `but`."""
    shutil.copytree(folder, copy)
    for file in copy.glob("*/*.safetensors"):
        if file.parent.name not in but:
            file.unlink()
    return copy


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and the same weights in one file."""
    pipeline = tiny_stable_diffusion()
    home = tmp_path_factory.mktemp("single")
    return save(pipeline, home / "folder"), save_in_one_file(pipeline, home / "one.safetensors")


def test_it_draws_what_its_folder_draws(stable_diffusion: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = stable_diffusion
    config = without_weights(folder, tmp_path / "config")
    assert np.array_equal(draw(load(file, config)), draw(load(folder)))


def test_parts_that_the_file_does_not_hold_are_read_from_the_folder(
    zimage: Any, zimage_folder: Path, tmp_path: Path
) -> None:
    """As ComfyUI has them: the transformer alone."""
    file = zimage_folder / "transformer" / "diffusion_pytorch_model.safetensors"
    rest = without_weights(zimage_folder, tmp_path / "rest", "vae", "text_encoder")
    engine = load(file, rest)
    assert torch.equal(engine._pipeline.transformer.x_pad_token, zimage.transformer.x_pad_token)
    assert draw(engine).shape == (64, 64, 3)
    less = without_weights(zimage_folder, tmp_path / "less", "vae")
    with pytest.raises(
        ModelNotLoaded, match=r"doesn't hold the weights of the text_encoder \(Qwen3Model\): set `config`"
    ):
        load(file, less)


def test_a_family_that_diffusers_reads_from_folders_only_is_refused_in_words(
    stable_diffusion: tuple[Path, Path], tmp_path: Path
) -> None:
    config = without_weights(save(tiny_sana(), tmp_path / "sana"), tmp_path / "config")
    with pytest.raises(
        ModelNotLoaded, match="can't read a SanaPipeline from one file: set `source` to a diffusers folder"
    ):
        load(stable_diffusion[1], config)


def test_without_a_configuration_and_without_the_hub_the_key_is_named(
    stable_diffusion: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelNotLoaded, match=r"doesn't recognize what .*one.safetensors holds: set `config`"):
        load(stable_diffusion[1])
    known = tmp_path / "known.safetensors"  # of a size that diffusers tells by one name
    save_file({"model.diffusion_model.output_blocks.11.0.skip_connection.weight": torch.zeros(1)}, known)
    with pytest.raises(
        ModelNotLoaded,
        match=r"read with the configuration of \S+/stable-diffusion-v1-5, which can't be had: set `config`",
    ):
        load(known)


def test_a_file_that_is_missing_or_cut_is_refused_in_words(stable_diffusion: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = stable_diffusion
    with pytest.raises(ModelNotLoaded, match="there is no file"):
        load(tmp_path / "no.safetensors", folder)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelNotLoaded, match="is cut short"):
        load(cut, folder)
    with pytest.raises(ModelNotLoaded, match=r"`config` of .* there is no folder"):
        load(file, tmp_path / "no-such-folder")


def test_a_file_beside_the_catalog_is_found_and_keys_that_need_a_folder_are_refused(tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    (tmp_path / "sd").mkdir()
    catalog.write_text('[models."a/b"]\nsource = "one.safetensors"\nconfig = "sd"\n')
    [model] = load_catalog(catalog).models.values()
    assert (model.source, model.config) == (str(tmp_path / "one.safetensors"), str(tmp_path / "sd"))
    for entry, reason in (
        ('source = "one.safetensors"\nvariant = "fp16"', "variant needs a source that is a folder or a hub id"),
        ('source = "one.safetensors"\ndevice = { quantization = "int8" }', "device.quantization needs a source"),
        ('source = "a/b"\nconfig = "a/b"', "config is only for a source that is one .safetensors file"),
    ):
        catalog.write_text(f'[models."a/b"]\n{entry}\n')
        with pytest.raises(OperatorError, match=reason):
            load_catalog(catalog)
