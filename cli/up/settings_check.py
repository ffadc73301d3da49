"""Every setting is checked before anything starts: a typing mistake costs no waiting, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors import OperatorError

# What stands for the embedded servers, whose addresses and keys are not known yet.
POSTGRES_TO_COME = {"database_url": "postgresql://127.0.0.1/darkroom", "database_direct_url": ""}
S3_TO_COME = {"s3_endpoint_url": "http://127.0.0.1", "s3_public_endpoint_url": None} | dict.fromkeys(
    ("s3_access_key_id", "s3_secret_access_key"), "to come"
)


def check_settings(outside: Mapping[str, str], *, models: Path, host: str) -> None:
    """Read the settings and the catalog as the roles will. `host`: the address that the API will listen on.

    Raises OperatorError or pydantic's ValidationError, which name the setting.
    """
    from api.browsers.origins import Origins
    from api.browsers.own_hosts import OwnHosts
    from api.settings import ApiSettings
    from storage import tracing
    from storage.access.sealing import open_sealer
    from storage.catalog import load_catalog
    from storage.webhooks.allowed_targets import AllowedTargets
    from worker.settings import WorkerSettings

    given: dict[str, Any] = {"models": models}
    if not outside.get("DATABASE_URL"):
        given |= POSTGRES_TO_COME
    if not outside.get("S3_ENDPOINT_URL"):
        given |= S3_TO_COME
    settings = ApiSettings(**given)  # the rest is read from the environment
    WorkerSettings(**given)
    load_catalog(models)
    Origins.parse(settings.cors_origins)
    OwnHosts(bound_to=host, public_url=settings.public_url, allowed_hosts=settings.allowed_hosts)
    open_sealer(settings)
    tracing.check(settings)
    try:
        AllowedTargets.of(settings)
    except ValueError as error:
        raise OperatorError(f"{error}.") from None
