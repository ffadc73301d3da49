"""`darkroom doctor` on a sound service, and on one with a fault planted in it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storage.postgres.database import connect
from tests.conftest import REPOSITORY, TEMPLATE, RunningServices, _create_database, _drop_database
from tests.support.serving import Service

DARKROOM = str(Path(sys.executable).parent / "darkroom")
NOWHERE = "127.0.0.1:9"


def findings(folder: Path, environment: dict[str, str], *words: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [DARKROOM, "doctor", "--json", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_sound_service_has_no_finding(service: Service, tmp_path: Path) -> None:
    sound = {"MODELS": str(REPOSITORY / "models.toml"), "SECRET_KEY": secrets.token_hex(32)}
    code, found = findings(tmp_path, service.environment | sound)
    assert [each for each in found if each["level"] != "ok"] == []
    assert code == 0
    # The tests' own service has no SECRET_KEY, and two of its models have the same version.
    _, found = findings(tmp_path, service.environment, "--no-worker")
    assert [each["part"] for each in found if each["level"] != "ok"] == ["secrets", "models"]
    assert {each["part"] for each in found} >= {"database", "bucket", "courier", "models", "api"}


def test_a_webhook_to_this_machine_is_tried(service: Service, tmp_path: Path) -> None:
    words = ["--no-worker", "--webhook"]
    _, found = findings(tmp_path, service.environment, *words, "127.0.0.1")
    assert [(each["level"], "arrived after" in each["text"]) for each in found if each["part"] == "webhook"] == [
        ("ok", True)
    ]
    listed = subprocess.run(
        [DARKROOM, "list", "--search", "darkroom doctor"],
        cwd=tmp_path,
        env=service.environment | {"DARKROOM_URL": service.url},
        capture_output=True,
        check=True,
    )
    assert listed.stdout == b""  # the prediction is gone again
    _, found = findings(tmp_path, service.environment, *words, "10.0.0.1")
    [this] = [each for each in found if each["part"] == "webhook"]
    assert (this["level"], "WEBHOOK_ALLOW" in this["remedy"]) == ("warning", True)


def test_lists_of_operators_are_json_for_programs(service: Service, tmp_path: Path) -> None:
    for words in (["workers"], ["tokens", "list"], ["webhooks", "list"], ["queues"]):
        done = subprocess.run(
            [DARKROOM, *words, "--json"],
            cwd=tmp_path,
            env=service.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)
        assert found or words[0] in ("tokens", "webhooks")


def catalog(folder: Path, text: str) -> dict[str, str]:
    path = folder / "planted.toml"
    path.write_text(text)
    return {"MODELS": str(path)}


def short_weights(folder: Path) -> Path:
    """The pocket model with one file cut short."""
    copy = folder / "pocket"
    for file in (REPOSITORY / "models" / "pocket").rglob("*"):
        target = copy / file.relative_to(REPOSITORY / "models" / "pocket")
        if file.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    return copy


def planted(name: str, service: Service, folder: Path) -> dict[str, str]:
    """The settings with this fault in them."""
    two = '[models."a/b"]\nengine = "blank"\n[models."a/c"]\nengine = "blank"\n'
    return {
        "database away": lambda: {"DATABASE_URL": f"postgresql://nobody@{NOWHERE}/none"},
        "direct connection away": lambda: {"DATABASE_DIRECT_URL": f"postgresql://nobody@{NOWHERE}/none"},
        "read-only": lambda: {"DATABASE_URL": f"{service.settings.database_url}{READ_ONLY}"},
        "bucket away": lambda: {"S3_ENDPOINT_URL": f"http://{NOWHERE}"},
        "wrong key": lambda: {"S3_SECRET_ACCESS_KEY": "not-the-key"},
        "no such bucket": lambda: {"S3_BUCKET": "nobody-made-this-one"},
        "presigned elsewhere": lambda: {
            "IMAGE_URLS": "presigned",
            "S3_PUBLIC_ENDPOINT_URL": f"http://{NOWHERE}",
        },
        "no catalog": lambda: {"MODELS": str(folder / "none.toml")},
        "typing mistake": lambda: catalog(folder, '[models."a/b"]\nsourec = "x"\n'),
        "clashing aliases": lambda: catalog(
            folder,
            '[models."a/b"]\nengine = "blank"\naliases = ["x"]\n[models."a/c"]\nengine="blank"\naliases = ["x"]\n',
        ),
        "shared version": lambda: catalog(folder, two),
        "no folder": lambda: catalog(folder, '[models."a/b"]\nsource = "./nothing"\n'),
        "cut weights": lambda: catalog(folder, f'[models."a/b"]\nsource = "{short_weights(folder)}"\n'),
        "no gguf": lambda: catalog(
            folder, f'[models."a/b"]\nsource = "{REPOSITORY}/models/pocket"\ndevice = {{ gguf = "none.gguf" }}\n'
        ),
        "no such device": lambda: (
            {"DEVICE": "cuda:99"} | catalog(folder, f'[models."a/b"]\nsource = "{REPOSITORY}/models/pocket"\n')
        ),
        "wrong network": lambda: {"WEBHOOK_ALLOW": "10.0.0.0/99"},
        "short secret": lambda: {"SECRET_KEY": "short"},
        "nobody at PUBLIC_URL": lambda: {"PUBLIC_URL": f"http://{NOWHERE}"},
        "another at PUBLIC_URL": lambda: {"PUBLIC_URL": service.settings.s3_endpoint_url or ""},
    }[name]()


READ_ONLY = "&options=-c%20default_transaction_read_only%3Don"


@pytest.mark.parametrize(
    ("fault", "part", "level", "says", "remedy"),
    [
        ("database away", "database", "broken", "can't be reached", "DATABASE_URL"),
        ("direct connection away", "database", "broken", "the direct connection fails", "DATABASE_DIRECT_URL"),
        ("read-only", "database", "broken", "read-only", "default_transaction_read_only"),
        ("bucket away", "bucket", "broken", NOWHERE, "S3_ENDPOINT_URL"),
        ("wrong key", "bucket", "broken", "SignatureDoesNotMatch", "S3_SECRET_ACCESS_KEY"),
        ("no such bucket", "bucket", "broken", "nobody-made-this-one", "S3_BUCKET"),
        ("presigned elsewhere", "bucket", "broken", "presigned", "S3_PUBLIC_ENDPOINT_URL"),
        ("no catalog", "settings", "broken", "none.toml", "docs/settings.md"),
        ("typing mistake", "settings", "broken", "did you mean source", "correct"),
        ("clashing aliases", "settings", "broken", "names both", "correct"),
        ("shared version", "models", "warning", "version '1'", "another `version`"),
        ("no folder", "models", "broken", "nothing", "source"),
        ("cut weights", "models", "broken", "cut short", "copy the whole folder"),
        ("no gguf", "models", "broken", "none.gguf", "correct"),
        ("no such device", "device", "broken", "cuda:99", "DEVICE"),
        ("wrong network", "settings", "broken", "10.0.0.0/99", "correct"),
        ("short secret", "settings", "broken", "SECRET_KEY", "correct"),
        ("nobody at PUBLIC_URL", "api", "broken", "can't be reached", "PUBLIC_URL"),
        ("another at PUBLIC_URL", "api", "broken", "something else", "proxy"),
    ],
)
def test_a_planted_fault_is_found_with_its_remedy(
    service: Service, tmp_path: Path, fault: str, part: str, level: str, says: str, remedy: str
) -> None:
    words = [] if fault in ("no folder", "cut weights", "no gguf", "no such device") else ["--no-worker"]
    code, found = findings(tmp_path, service.environment | planted(fault, service, tmp_path), *words)
    [this] = [each for each in found if each["part"] == part and each["level"] == level and says in each["text"]]
    assert remedy in this["remedy"]
    assert code == (1 if level == "broken" else 0)
    # What is sound is not accused with it.
    others = {each["part"] for each in found if each["level"] == "broken"} - {part}
    assert others <= ({"models"} if part == "settings" else set())


@pytest.fixture
def other_encoding(services: RunningServices) -> Iterator[str]:
    """A database that stores bytes of no known encoding."""
    name = f"darkroom_ascii_{os.getpid()}"
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0").format(
                sql.Identifier(name)
            )
        )
        try:
            yield services.url_of(name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_a_wrong_encoding_is_found(service: Service, tmp_path: Path, other_encoding: str) -> None:
    code, found = findings(tmp_path, service.environment | {"DATABASE_URL": other_encoding}, "--no-worker")
    assert code == 1
    assert any("SQL_ASCII" in each["text"] and "ENCODING 'UTF8'" in each["remedy"] for each in found)


@pytest.fixture
def migrated(services: RunningServices) -> Iterator[str]:
    """A database with this release's schema, which nobody uses."""
    name = f"t{secrets.token_hex(6)}"
    _create_database(services, name, template=TEMPLATE)
    yield services.url_of(name)
    _drop_database(services, name)


def test_a_missing_schema_a_newer_one_and_a_missing_courier_are_found(
    service: Service, services: RunningServices, tmp_path: Path, empty_database: str, migrated: str
) -> None:
    def found_in(url: str) -> list[tuple[str, str]]:
        code, found = findings(tmp_path, service.environment | {"DATABASE_URL": url}, "--no-worker")
        assert code == 1
        return [(each["text"], each["remedy"]) for each in found if each["level"] == "broken"]

    [(text, remedy)] = found_in(services.url_of(empty_database))
    assert ("no Darkroom schema" in text, "darkroom migrate" in remedy) == (True, True)
    [(text, remedy)] = found_in(migrated)
    assert ("none runs" in text, "darkroom courier" in remedy) == (True, True)
    with connect(migrated, application_name="test") as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
        conn.execute("DELETE FROM darkroom_compatible_with")  # the newer release changed what this one needs
    [(text, remedy)] = found_in(migrated)
    assert ("9999" in text, "upgrade" in remedy) == (True, True), text
