"""A model folder from a stranger: whatever lies in it, none of its code runs."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import Model
from tests.engine.tiny_pipelines import save, tiny_zimage
from worker.engine import ModelNotLoaded, load_engine

WEIGHTS = "diffusion_pytorch_model.safetensors"


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, owned: Path) -> None:
        self._owned = owned

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self._owned,)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that loads."""
    return save(tiny_zimage(), tmp_path_factory.mktemp("sound") / "zimage")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model"))


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    """A file that exists as soon as code of the folder has run."""
    return tmp_path / "owned"


def _code(owned: Path) -> str:
    return f"from pathlib import Path\nPath({str(owned)!r}).touch()\nclass Evil:\n    pass\n"


def _change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def _pickle_alone(folder: Path, owned: Path) -> None:
    (folder / "vae" / WEIGHTS).unlink()
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload(owned)))


def _pickle_beside_safetensors(folder: Path, owned: Path) -> None:
    for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.ckpt"):
        (folder / "vae" / name).write_bytes(pickle.dumps(Payload(owned)))
    (folder / "vae" / WEIGHTS).write_bytes(b"\0" * 100)


def _pickle_named_safetensors(folder: Path, owned: Path) -> None:
    (folder / "vae" / WEIGHTS).write_bytes(pickle.dumps(Payload(owned)))


def _pipeline_code(folder: Path, owned: Path) -> None:
    (folder / "pipeline.py").write_text(_code(owned))
    _change(folder / "model_index.json", _class_name=["pipeline", "Evil"])


def _part_code(folder: Path, owned: Path) -> None:
    (folder / "scheduler" / "evil.py").write_text(_code(owned))
    _change(folder / "model_index.json", scheduler=["evil", "Evil"])


def _part_of_another_library(folder: Path, owned: Path) -> None:
    _change(folder / "model_index.json", scheduler=["subprocess", "Popen"])


def _class_that_is_no_pipeline(folder: Path, owned: Path) -> None:
    _change(folder / "model_index.json", _class_name="__builtins__")


def _remote_tokenizer(folder: Path, owned: Path) -> None:
    (folder / "tokenizer" / "evil.py").write_text(_code(owned))
    _change(
        folder / "tokenizer" / "tokenizer_config.json",
        tokenizer_class="Evil",
        auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
    )


def _endless_header(folder: Path, owned: Path) -> None:
    (folder / "transformer" / WEIGHTS).write_bytes((2**63).to_bytes(8, "little") + b"{" * 1000)


def _overlapping_tensors(folder: Path, owned: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / "transformer" / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header)


def _deep_index(folder: Path, owned: Path) -> None:
    (folder / "model_index.json").write_text("[" * 100_000)


def _part_outside(folder: Path, owned: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload(owned)))
    shutil.rmtree(folder / "vae")
    (folder / "vae").symlink_to(outside)


HOSTILE = [
    _pickle_alone,
    _pickle_beside_safetensors,
    _pickle_named_safetensors,
    _pipeline_code,
    _part_code,
    _part_of_another_library,
    _class_that_is_no_pipeline,
    _endless_header,
    _overlapping_tensors,
    _deep_index,
    _part_outside,
]


@pytest.mark.parametrize("poison", HOSTILE, ids=lambda poison: poison.__name__.strip("_"))
def test_a_hostile_folder_is_refused_in_one_line_and_none_of_its_code_runs(
    folder: Path, owned: Path, poison: Callable[[Path, Path], None]
) -> None:
    poison(folder, owned)
    model = Model(name="test/hostile", source=str(folder), dtype="float32")
    try:
        with pytest.raises(ModelNotLoaded) as refused:
            load_engine(model, device="cpu")
        assert "\n" not in str(refused.value)
    finally:
        assert not owned.exists()


def test_code_that_a_tokenizer_names_is_not_run(folder: Path, owned: Path) -> None:
    """transformers takes a tokenizer of its own in its place."""
    _remote_tokenizer(folder, owned)
    with suppress(ModelNotLoaded):
        load_engine(Model(name="test/hostile", source=str(folder), dtype="float32"), device="cpu")
    assert not owned.exists()


def test_the_payload_would_run_if_it_were_unpickled(owned: Path) -> None:
    pickle.loads(pickle.dumps(Payload(owned)))  # noqa: S301 (that is the point)
    assert owned.exists()
