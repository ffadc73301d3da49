"""compose.yaml, its MinIO override and .env.example: valid, and true to the settings in the code."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import jsonschema
import pytest
from pydantic import field_validator

from api.settings import ApiSettings
from storage.settings import Settings
from tests.deploy.compose_files import load
from tests.deploy.dockerfile import DEPLOY, REPOSITORY
from worker.settings import WorkerSettings

SCHEMA = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
OVERRIDES = ["compose.minio.yaml", "compose.aws.yaml"]
FILES = ["compose.yaml", *OVERRIDES]
OURS = ["api", "courier", "worker", "prepare"]
SETTINGS_CLASSES = (Settings, ApiSettings, WorkerSettings)
SETTINGS = {name.upper(): field for settings in SETTINGS_CLASSES for name, field in settings.model_fields.items()}
# Read by compose alone.
FOR_COMPOSE = {
    "POSTGRES_PASSWORD", "MODELS_TOML", "WORKER_MODEL", "DARKROOM_LISTEN", "DARKROOM_VERSION", "COMPOSE_FILE",
    "NO_PROXY",
}  # fmt: skip
FOR_THE_HUB = {"HF_TOKEN"}  # read by huggingface_hub, which the worker downloads with


def example() -> dict[str, tuple[str, bool]]:
    """The variables of .env.example: the value, and whether it is commented out."""
    found = re.findall(r"^(# )?([A-Z][A-Z0-9_]+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE)
    return {name: (value, bool(commented)) for commented, name, value in found}


@pytest.mark.parametrize("name", FILES)
def test_it_is_valid_by_the_schema_of_compose(name: str) -> None:
    jsonschema.validate(load(name), SCHEMA)


def test_the_schema_refuses_what_is_misspelt() -> None:
    document = load("compose.yaml")
    document["services"]["api"]["read_onyl"] = True
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_override_changes_services_that_exist_and_all_that_use_the_bucket(name: str) -> None:
    services = load(name)["services"]
    assert set(services) <= set(load("compose.yaml")["services"])
    assert {*OURS, "s3"} <= set(services)


@pytest.mark.parametrize("name", FILES)
def test_the_endpoint_can_be_set_and_left_out_in_the_env_file(name: str) -> None:
    for service in OURS:
        endpoint = load(name)["services"][service]["environment"]["S3_ENDPOINT_URL"]
        assert re.fullmatch(r"\$\{S3_ENDPOINT_URL-[^}]*\}", endpoint)  # `:-` would fill in what is empty too


def test_with_a_bucket_elsewhere_no_s3_server_is_started_or_waited_for_and_the_key_may_be_left_out() -> None:
    services = load("compose.aws.yaml")["services"]
    assert services["s3"]["profiles"]
    assert services["prepare"]["depends_on"]["s3"]["required"] is False
    assert [
        name for name, service in load("compose.yaml")["services"].items() if "s3" in service.get("depends_on", {})
    ] == ["prepare"]
    text = "\n".join((DEPLOY / name).read_text() for name in ("compose.yaml", "compose.aws.yaml"))
    assert ":?" not in re.sub(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}", "", text)
    for service in OURS:
        assert services[service]["environment"] == {
            "S3_ENDPOINT_URL": "${S3_ENDPOINT_URL-}",
            "S3_ACCESS_KEY_ID": "${S3_ACCESS_KEY_ID-}",
        }


@pytest.mark.parametrize("service", OURS)
def test_our_containers_write_nowhere_and_may_do_nothing_special(service: str) -> None:
    definition = load("compose.yaml")["services"][service]
    assert definition["read_only"] is True
    assert definition["cap_drop"] == ["ALL"]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert definition["tmpfs"] == ["/tmp"]


def test_every_image_of_ours_is_built_by_one_service_that_the_others_wait_for() -> None:
    services = load("compose.yaml")["services"]
    builders = {services[name]["image"]: name for name in OURS if "build" in services[name]}
    assert len(builders) == len([name for name in OURS if "build" in services[name]])
    for name in OURS:
        builder = builders[services[name]["image"]]
        if name == builder:
            assert (REPOSITORY / services[name]["build"]["dockerfile"]).exists()
        else:
            assert services[name]["pull_policy"] == "never"  # no registry has it
            assert services[name]["depends_on"][builder] == {"condition": "service_completed_successfully"}


def test_no_container_is_left_to_a_health_check_that_is_not_its_own() -> None:
    services = load("compose.yaml")["services"]
    asked_over_http = [name for name in OURS if services[name]["image"].startswith("darkroom-api:")]
    for name in asked_over_http:
        assert services[name].get("healthcheck") == (None if name == "api" else {"disable": True})
    assert "healthcheck" not in services["worker"]  # its image's own


@pytest.mark.parametrize("service", [*OURS, "s3"])
def test_what_speaks_http_to_the_other_services_never_does_it_through_a_proxy(service: str) -> None:
    environment = load("compose.yaml")["services"][service]["environment"]
    for name in ("NO_PROXY", "no_proxy"):  # Python prefers the one, busybox and Go read either
        assert {"s3", "127.0.0.1", "localhost"} <= set(environment[name].partition("$")[0].split(","))


def test_the_worker_is_given_more_time_to_stop_than_it_takes() -> None:
    worker = load("compose.yaml")["services"]["worker"]
    default = re.search(r":-(\d+)}", worker["environment"]["GRACE_SECONDS"])
    assert default is not None
    assert int(worker["stop_grace_period"].removesuffix("s")) >= int(default[1]) + 20


def test_no_port_is_open_to_the_network_unless_asked_for() -> None:
    published = {
        name: service["ports"] for name, service in load("compose.yaml")["services"].items() if "ports" in service
    }
    assert published == {"api": ["${DARKROOM_LISTEN:-127.0.0.1:8000}:8000"]}


def test_every_variable_that_compose_reads_stands_in_the_example() -> None:
    text = "\n".join((DEPLOY / name).read_text() for name in FILES)
    assert set(re.findall(r"\$\{([A-Z0-9_]+)", text)) <= set(example())


def test_every_variable_of_the_example_is_read_by_somebody() -> None:
    assert set(example()) <= set(SETTINGS) | FOR_COMPOSE | FOR_THE_HUB
    assert {name.upper() for name in fields_without_a_reader(*SETTINGS_CLASSES)} == set()


def test_a_setting_without_a_reader_would_be_noticed() -> None:
    class Forgotten(Settings):
        forgotten: str = ""
        validated: str = ""

        @field_validator("validated")
        @classmethod
        def _validate(cls, value: str) -> str:
            return value

    assert fields_without_a_reader(Forgotten) == {"forgotten", "validated"}


def fields_without_a_reader(*classes: type[Settings]) -> set[str]:
    """Fields that no code outside the settings classes reads, as `settings.NAME`, itself or through a property."""
    read_of_settings = _read_of_settings()
    read = set(read_of_settings)
    for settings in classes:
        for name, member in inspect.getmembers_static(settings):
            code = getattr(getattr(member, "fget", getattr(member, "func", None)), "__code__", None)
            if name in read_of_settings and code is not None:
                read |= set(code.co_names)
    return {name for settings in classes for name in settings.model_fields} - read


@cache
def _read_of_settings() -> frozenset[str]:
    return frozenset(_attributes_of_settings())


def _attributes_of_settings() -> Iterator[str]:
    for room in ("api", "cli", "courier", "storage", "worker"):
        for path in (REPOSITORY / room).rglob("*.py"):
            if path.name == "settings.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    value = node.value.func if isinstance(node.value, ast.Call) else node.value
                    owner = getattr(value, "attr", getattr(value, "id", ""))
                    if owner.lstrip("_").lower().endswith("settings"):  # `self._settings.…`, `ApiSettings().…`
                        yield node.attr


def test_every_setting_stands_in_the_example_but_for_the_path_that_is_fixed_in_the_containers() -> None:
    assert set(SETTINGS) - set(example()) == {"MODELS"}


def test_what_has_no_default_is_there_to_be_filled_in() -> None:
    required = set(re.findall(r"\$\{([A-Z0-9_]+):?\?", (DEPLOY / "compose.yaml").read_text()))
    assert required == {"POSTGRES_PASSWORD", "S3_SECRET_ACCESS_KEY"}
    assert example()["POSTGRES_PASSWORD"] == ("", False)
    # Commented out: compose stops at once when it is forgotten, and it may be empty on purpose (compose.aws.yaml).
    assert example()["S3_SECRET_ACCESS_KEY"] == ("", True)
    first_part, _, _ = (DEPLOY / ".env.example").read_text().partition("# --- Servers")
    assert all(f"{name}=" in first_part for name in required)


def test_the_example_shows_the_defaults_of_the_code() -> None:
    set_otherwise = {
        "AUTH",
        "LOG_FORMAT",
        "GRACE_SECONDS",
        "S3_ENDPOINT_URL",
        "S3_ACCESS_KEY_ID",
        "PROXY_ADDRESSES",
    }  # by the images and by compose.yaml
    for name, (value, commented) in example().items():
        if not commented or name in FOR_COMPOSE | FOR_THE_HUB | set_otherwise or SETTINGS[name].is_required():
            continue
        default = SETTINGS[name].default
        assert value == shown_as(default), name


def shown_as(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:.0f}" if isinstance(default, float) else "" if default is None else str(default)
