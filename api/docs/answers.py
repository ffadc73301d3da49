"""What answers look like, for the documentation; a test holds real answers against it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel


class Urls(BaseModel):
    """Where this prediction goes on. `stream` and `events` need no token: they are signed."""

    model_config = ConfigDict(extra="allow")

    get: str
    cancel: str
    web: str
    stream: str
    events: str


class Prediction(BaseModel):
    """Replicate's prediction object, and a webhook's body, byte for byte; `seed`, `thumbnails`, `keep`
    and `metadata` are ours."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(description="26 characters that sort by time")
    model: str
    version: str
    status: Literal["starting", "processing", "succeeded", "failed", "canceled"]
    input: dict[str, Any]
    output: list[str] | None = Field(description="signed URLs of the images, once it succeeded")
    error: str | None
    logs: str
    metrics: dict[str, Any] = Field(description="times in seconds")
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    data_removed: bool
    keep: bool
    metadata: dict[str, Any]
    source: str
    urls: Urls
    seed: int | None
    thumbnails: list[str | None] | None


class PredictionPage(BaseModel):
    """At most `limit`, newest first."""

    next: str | None
    previous: str | None
    results: list[Prediction]


class UsageRow(BaseModel):
    """Sums, with the keys of `by`. `token` is null for predictions that belong to no token."""

    day: date | None = None
    token: str | None = None
    model: str | None = None
    predictions: int = Field(description="that ended, the three below together")
    succeeded: int
    failed: int
    canceled: int
    images: int
    steps: int = Field(description="denoising steps, counted for each image")
    gpu_seconds: float = Field(description="of the device; a shared step is divided by pixels")


class Usage(BaseModel):
    """Of the days `from` to `to`, UTC."""

    first: date = Field(alias="from")
    to: date
    by: list[str]
    results: list[UsageRow]


class InvalidField(BaseModel):
    field: str
    description: str


class ProblemDocument(BaseModel):
    """RFC 9457. `detail` says what to do."""

    model_config = ConfigDict(extra="allow")

    title: str
    detail: str
    status: int
    type: str
    invalid_fields: list[InvalidField] = []


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """The same in the shape that OpenAI's clients read."""

    error: OpenAIErrorDetail


class WorkerCounts(BaseModel):
    """Workers of a model."""

    ready: int
    loading: int


class KeptWarm(BaseModel):
    """Until when a worker of the model stays ready, and how many there are now."""

    model: str
    warm_until: datetime
    workers: WorkerCounts


class DeploymentConfiguration(BaseModel):
    """Of a release."""

    hardware: str
    min_instances: int
    max_instances: int


class DeploymentRelease(BaseModel):
    """The state of a deployment since its last change."""

    number: int
    model: str
    version: str
    created_at: datetime
    created_by: dict[str, Any] = Field(description="the account, as from GET /v1/account")
    configuration: DeploymentConfiguration


class Deployment(BaseModel):
    """Replicate's deployment object."""

    owner: str
    name: str
    current_release: DeploymentRelease


class DeploymentPage(BaseModel):
    """All deployments, the latest one first."""

    next: str | None
    previous: str | None
    results: list[Deployment]


class Hardware(BaseModel):
    """A kind of device."""

    name: str = Field(description="as its driver calls it")
    sku: str = Field(description="for `hardware` of a deployment")


class HardwareList(RootModel[list[Hardware]]):
    """The devices that workers draw on, by name."""
