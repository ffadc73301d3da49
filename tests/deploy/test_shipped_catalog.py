"""The catalog that is shipped, at the paths where the images, compose and the systemd units have it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from storage.catalog import load_catalog
from tests.deploy.dockerfile import DEPLOY, INSTALLED, REPOSITORY, BuiltImage

AT = f"{INSTALLED}/app/models.toml"
DOCS = (REPOSITORY / "docs" / "deploy.md").read_text()
Z_IMAGE = "tongyi-mai/z-image-turbo"


@pytest.mark.parametrize("name", ["api.Dockerfile", "worker.Dockerfile"])
def test_each_image_has_the_catalog_where_it_looks_for_it(name: str, tmp_path: Path) -> None:
    image = BuiltImage(name, tmp_path, python=Path(sys.executable), packages=Path(sysconfig.get_path("purelib")))
    assert image.environment["MODELS"] == f"{tmp_path}{AT}"
    catalog = load_catalog(Path(image.environment["MODELS"]))
    assert list(catalog.models) == ["darkroom/pocket"]
    folder = Path(catalog.models["darkroom/pocket"].source)
    assert folder == tmp_path.resolve() / f"{INSTALLED}/app".lstrip("/") / "models" / "pocket"
    assert (folder / "model_index.json").is_file() == (name == "worker.Dockerfile")  # the API never sees weights


def test_compose_puts_its_catalog_in_the_place_of_the_one_in_the_image() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert compose["configs"]["models"]["file"] == "${MODELS_TOML:-../models.toml}"
    assert (DEPLOY / "../models.toml").samefile(REPOSITORY / "models.toml")
    for name in ("api", "courier", "worker", "prepare"):
        service = compose["services"][name]
        assert service["environment"]["MODELS"] == AT
        assert service["configs"] == [{"source": "models", "target": AT}]
    assert compose["services"]["worker"]["command"][-1] == "${WORKER_MODEL:-darkroom/pocket}"


def test_the_commands_of_the_docs_make_a_catalog_with_z_image_for_systemd(tmp_path: Path) -> None:
    (copy,) = re.findall(r"^# (sed .*) models\.toml > /etc/darkroom/models\.toml$", DOCS, re.MULTILINE)
    uncomment = set(re.findall(r"sed (?:-i )?('[^']*tongyi-mai[^']*')", DOCS))
    assert len(uncomment) == 1, "the same everywhere"
    made = tmp_path / "models.toml"
    copied = subprocess.run(
        [*shlex.split(copy), REPOSITORY / "models.toml"], capture_output=True, text=True, check=True
    )
    made.write_text(copied.stdout)
    assert list(load_catalog(made).models) == ["darkroom/pocket"]
    done = subprocess.run(["sed", *shlex.split(uncomment.pop()), made], capture_output=True, text=True, check=True)
    made.write_text(done.stdout)
    catalog = load_catalog(made)
    assert list(catalog.models) == ["darkroom/pocket", Z_IMAGE]
    pocket = catalog.models["darkroom/pocket"]
    assert pocket.source == f"{INSTALLED}/app/models/pocket"
    assert pocket.loras["outlined"].source == f"{INSTALLED}/app/models/pocket_loras/outlined.safetensors"
    assert catalog.models[Z_IMAGE].dtype == "bfloat16"
    assert _versions_differ(made)


@pytest.mark.parametrize(
    "catalog", sorted(DEPLOY.glob("kubernetes/overlays/**/models.toml")), ids=lambda path: path.parent.name
)
def test_the_models_of_a_shipped_catalog_have_versions_of_their_own(catalog: Path) -> None:
    """Clients of Replicate send the version alone, so two models with one version are ambiguous."""
    assert _versions_differ(catalog)


def _versions_differ(path: Path) -> bool:
    versions = [model.version for model in load_catalog(path).models.values()]
    return len(set(versions)) == len(versions)
