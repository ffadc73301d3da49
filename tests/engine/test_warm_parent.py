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
from cli.host.warm_parent.linux import native_threads, open_devices
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

# As on a machine with a GPU: torch has an accelerator, and a library that asks the driver for it would open it.
ASK = """
import traceback
from pathlib import Path
import torch
from storage.catalog import load_catalog
from worker.engine.loading.import_ahead import import_for

def answer(*given):
    traceback.print_stack()
    raise SystemExit("the driver was asked")

torch.accelerator.current_accelerator = lambda *given: torch.device("cuda")
for name in ("is_available", "device_count", "get_device_capability", "get_device_properties", "_lazy_init"):
    setattr(torch.cuda, name, answer)
import_for(load_catalog(Path("models.toml")).models.values())
assert torch.cuda.is_available is answer, "put back"
print("nobody asked")
"""


@pytest.mark.timeout(300)
def test_the_imports_ask_no_driver_for_a_gpu() -> None:
    assert run(ASK).endswith("nobody asked\n")


@pytest.mark.timeout(300)
def test_a_forked_child_draws_the_same_picture_and_imports_next_to_nothing() -> None:
    drawn, forked, late, *names = run(DRAW).strip().splitlines()[-1].split()
    assert drawn == forked
    assert int(late) < 20, names


def run(program: str) -> str:
    """What it prints, in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
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
    return done.stdout
