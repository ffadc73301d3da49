"""What a warm parent imports for the pocket model, and what a child that is forked from it draws."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

DRAW = """
import hashlib, os, sys
from pathlib import Path
from cli.host.linux import native_threads, open_devices
from storage.catalog import load_catalog
from worker.engine import load_engine
from worker.engine.loading.import_ahead import import_for

def draw(model):
    engine = load_engine(model, device="cpu")
    drawing = engine.begin(model.typical)
    while drawing.steps_done < drawing.steps:
        engine.step([drawing], lambda: None)
    (image,) = engine.decode(drawing)()
    return hashlib.sha256(image.tobytes()).hexdigest()

model = load_catalog(Path("models.toml")).models["darkroom/pocket"]
import_for([model])
import torch
assert not torch.cuda.is_initialized()
assert open_devices() == [], open_devices()
assert len(native_threads()) == 1, native_threads()
known = set(sys.modules)
reading, writing = os.pipe()
if os.fork() == 0:
    drawn = draw(model)
    libraries = ("torch.", "diffusers.", "transformers.")
    late = [name for name in set(sys.modules) - known if name.startswith(libraries)]
    os.write(writing, f"{drawn} {len(late)} {' '.join(late)}".encode())
    os._exit(0)
os.close(writing)
forked = open(reading).read().split()
os.wait()
print(draw(model), *forked)
"""


@pytest.mark.timeout(300)
def test_a_forked_child_draws_the_same_picture_and_imports_next_to_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={
            "OPENBLAS_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(REPOSITORY),
            "HF_HUB_OFFLINE": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    drawn, forked, late, *names = done.stdout.strip().splitlines()[-1].split()
    assert drawn == forked
    assert int(late) < 20, names
