"""Settings that the API, the worker and the courier share, read once per process from the environment."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storage.postgres.url import check_postgres_url

DAY_S = 24 * 3600.0
# Dates have to stay within what Postgres and Python can count.
MAX_PERIOD_S = 100 * 366 * DAY_S


class Settings(BaseSettings):
    """One frozen object, handed down; nothing else reads the environment.

    Every field is the environment variable of the same name in upper case.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    # Postgres. LISTEN and leases need a connection of their own, which transaction poolers break.
    database_url: str = Field(description="postgresql://user:password@host:5432/database")
    database_direct_url: str = Field(
        default="", description="the same database past any transaction pooler; default: DATABASE_URL"
    )
    database_pool_size: int = Field(default=8, ge=1, le=200, description="connections of one API process")

    # S3. Without keys, boto3 looks where it always looks (instance roles, ~/.aws, …).
    s3_endpoint_url: str | None = Field(default=None, description="the S3 server; without it, AWS S3")
    s3_public_endpoint_url: str | None = Field(
        default=None, description="where clients reach the bucket, for presigned URLs; default: S3_ENDPOINT_URL"
    )
    s3_bucket: str = Field(default="darkroom", description="created if it does not exist")
    s3_prefix: str = Field(default="darkroom", description="all objects lie under it; each deployment needs its own")
    s3_region: str = Field(default="us-east-1", description="the region of the bucket")
    s3_addressing: str = Field(
        default="auto",
        pattern="^(auto|path|virtual)$",
        description="where the bucket's name stands: path, https://host/bucket; virtual, https://bucket.host;"
        " auto: path if S3_ENDPOINT_URL is set",
    )
    s3_access_key_id: str | None = Field(
        default=None,
        description="set both halves of the key, or neither: boto3 then looks for instance roles, ~/.aws, …",
    )
    s3_ca_bundle: Path | None = Field(
        default=None,
        description="a PEM file with the authority of the S3 server's certificate, if it isn't a public one",
    )
    s3_secret_access_key: SecretStr | None = Field(default=None, description="the other half of the key")

    public_url: str = Field(
        default="http://127.0.0.1:8000",
        description="where clients reach the API; may have a path. All links begin with it",
    )
    models: Path = Field(default=Path("models.toml"), description="the catalog of models")
    image_urls: str = Field(
        default="api",
        pattern="^(api|presigned)$",
        description="where the URLs in answers lead: to this API, or presigned to the bucket",
    )
    log_format: str = Field(
        default="console", pattern="^(console|json)$", description="lines for people, or one JSON object a line"
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="the least severe messages that are logged"
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        default=None, description="an OpenTelemetry collector (OTLP over HTTP) for traces; default: no traces"
    )

    secret_key: SecretStr | None = Field(
        default=None,
        description="encrypts the signing secrets in the database; `openssl rand -hex 32` makes one",
    )

    lora_allow: str = Field(
        default="",
        description="hosts whose LoRAs requests may name by URL (https, .safetensors), comma-separated; default: none",
    )

    # Life of a prediction.
    prediction_deadline_s: float = Field(
        default=DAY_S, ge=5, le=MAX_PERIOD_S, description="a prediction that has not ended by then is canceled"
    )
    retention_s: float = Field(
        default=7 * DAY_S, ge=0, le=MAX_PERIOD_S, description="how long an ended prediction keeps its data; 0: for ever"
    )
    model_load_tries: int = Field(
        default=3, ge=1, description="a waiting prediction fails after this many failed tries to load its model"
    )
    model_load_timeout_s: float = Field(
        default=600, gt=0, description="or after this time since the first failed try, whichever is first"
    )

    # Webhooks.
    webhook_allow: str = Field(
        default="", description="private receivers that are allowed: networks and host names, comma-separated"
    )
    webhook_allow_while_open: str = Field(
        default="", description="the same, but only while the API needs no token; `darkroom up` sets it to this machine"
    )
    webhook_deny: str = Field(
        default="",
        description="servers that webhooks never go to, in addition to this service's own: host:port or host,"
        " comma-separated",
    )
    # The schedule of the Standard Webhooks specification.
    webhook_retry_schedule: Annotated[tuple[float, ...], NoDecode] = Field(
        default=(0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="seconds before each attempt to deliver a webhook; the attempts end with the list",
    )
    webhook_timeout_s: float = Field(default=15, gt=0, description="wall-clock time for one whole attempt")
    webhook_concurrency: int = Field(
        default=32, ge=1, description="POSTs that one courier sends at once; one token alone gets half of them"
    )

    @field_validator("database_url", "database_direct_url")
    @classmethod
    def _postgres_url(cls, value: str) -> str:
        if value:
            check_postgres_url(value)
        return value

    @field_validator("lora_allow")
    @classmethod
    def _host_names(cls, value: str) -> str:
        for part in filter(None, (part.strip() for part in value.split(","))):
            if "/" in part or ":" in part or " " in part:
                raise ValueError(f"{part!r} is not a host name, such as huggingface.co")
        return value

    @field_validator("webhook_retry_schedule", mode="before")
    @classmethod
    def _split_schedule(cls, value: Any) -> Any:
        return tuple(float(part) for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("webhook_retry_schedule")
    @classmethod
    def _schedule_has_an_attempt(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or min(value) < 0:
            raise ValueError("needs at least one delay, in seconds, none of them negative")
        return value

    @field_validator("public_url", "s3_endpoint_url", "s3_public_endpoint_url", "otel_exporter_otlp_endpoint")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("needs to start with http:// or https://")
        return value.rstrip("/") if value is not None else None

    @field_validator("s3_prefix")
    @classmethod
    def _prefix_without_slashes(cls, value: str) -> str:
        return value.strip("/")

    @model_validator(mode="after")
    def _both_keys_or_neither(self) -> Settings:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            missing = "S3_ACCESS_KEY_ID" if self.s3_access_key_id is None else "S3_SECRET_ACCESS_KEY"
            raise ValueError(
                f"{missing} is not set, but the other half of the S3 key is: set both, or neither where boto3 finds"
                " keys by itself (instance roles, ~/.aws)"
            )
        return self

    @property
    def lora_hosts(self) -> frozenset[str]:
        """The host names of LORA_ALLOW, in lower case."""
        return frozenset(part.strip().lower() for part in self.lora_allow.split(",") if part.strip())

    @property
    def retention(self) -> timedelta | None:
        """How long an ended prediction keeps its data; None: for ever."""
        return timedelta(seconds=self.retention_s) if self.retention_s else None

    @cached_property
    def direct_url(self) -> str:
        """The database past any pooler: for LISTEN, leases and migrations."""
        return self.database_direct_url or self.database_url
