"""The settings of what `darkroom up` starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.supervision.launch import for_children

LOOPBACK = "127.0.0.0/8,::1,localhost"  # where webhooks may go, too, as long as only this machine can send requests


def known_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Those of the environment that some role reads."""
    from api.settings import ApiSettings
    from worker.settings import WorkerSettings

    known = {name.upper() for part in (ApiSettings, WorkerSettings) for name in part.model_fields}
    return {name: value for name, value in env.items() if name.upper() in known}


def shared_environment(
    outside: Mapping[str, str],
    *,
    public_url: str,
    models: Path,
    database_url: str | None,
    s3: Mapping[str, str] | None,
    own_servers: Sequence[str],
    is_for_this_machine: bool,
) -> dict[str, str]:
    """The settings of all roles: the operator's own, completed by where the embedded servers are.

    An embedded server replaces every setting about where the real one is, so that half of another never remains.
    `own_servers`: each host:port on which a part of this run listens, where no webhook may go. `is_for_this_machine`:
    nobody else can reach the API.
    """
    env = dict(outside)
    if database_url is not None:
        env |= {"DATABASE_URL": database_url, "DATABASE_DIRECT_URL": ""}
    if s3 is not None:
        env |= {"S3_PUBLIC_ENDPOINT_URL": "", **s3}
    env.setdefault("PUBLIC_URL", public_url)
    env["MODELS"] = str(models)
    env["WEBHOOK_DENY"] = ",".join(filter(None, [env.get("WEBHOOK_DENY", "").strip(" ,"), *own_servers]))
    # With AUTH=none a proxy decides who comes: they may be others.
    if is_for_this_machine and env.get("AUTH", "auto") in ("", "auto"):
        env.setdefault("WEBHOOK_ALLOW_WHILE_OPEN", LOOPBACK)
    else:
        env["WEBHOOK_ALLOW_WHILE_OPEN"] = ""
    return for_children(env)
