"""`darkroom` commands in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from cli.group import darkroom
from storage.settings import Settings


def command(settings: Settings, *words: str) -> Result:
    return CliRunner().invoke(darkroom, list(words), env=environment_of(settings))


def environment_of(settings: Settings) -> dict[str, str]:
    assert settings.s3_secret_access_key is not None
    return {
        "DATABASE_URL": settings.database_url,
        "S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
        "S3_ACCESS_KEY_ID": str(settings.s3_access_key_id),
        "S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key.get_secret_value(),
        "S3_BUCKET": settings.s3_bucket,
        "S3_PREFIX": settings.s3_prefix,
    }
