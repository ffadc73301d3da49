"""Settings of the GPU worker, in addition to the shared ones."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from storage.settings import Settings


class WorkerSettings(Settings):
    """Every field is the environment variable of the same name in upper case."""

    device: str = Field(default="auto", description="cuda, cuda:1, mps or cpu; auto uses the first that exists")
    stall_seconds: float = Field(
        default=120, gt=0, description="a worker whose drawing makes no progress for this long exits"
    )
    grace_seconds: float = Field(
        default=25,
        ge=0,
        description="how long a drawing may continue after SIGTERM; must be below the orchestrator's limit",
    )
    poll_seconds: float = Field(
        default=1.0, gt=0, description="how often the worker looks for work, in case a notification was lost"
    )
    warm_parent: bool = Field(
        default=True,
        description="fork workers from a process that has imported everything: they start at once (Linux)",
    )
    standby_after_s: float | None = Field(
        default=None,
        ge=0,
        description="after so long without work, a worker moves its weights to main memory and frees the GPU; not set: "
        "never",
    )
    standby_workers: int = Field(
        default=3,
        ge=0,
        description="how many workers of `darkroom up` or `darkroom host` may stand by at the same time",
    )
    embed_parameters: bool = Field(
        default=True, description="write prompt, seed and the other parameters into the image files"
    )
    mark_ai_generated: bool = Field(
        default=True, description="write into the image files that a model made them (IPTC DigitalSourceType, in XMP)"
    )
    c2pa_cert: Path | None = Field(
        default=None,
        description="sign images with C2PA: a PEM file with the certificate and those that lead to its root",
    )
    c2pa_key: Path | None = Field(default=None, description="a PEM file with the private key of C2PA_CERT")
    lora_folder: Path = Field(
        default=Path("~/.cache/darkroom/loras"), description="where LoRAs are kept that requests name by URL"
    )
    max_lora_bytes: int = Field(default=1024**3, ge=1, description="the largest LoRA that a URL may lead to")
    max_lora_folder_bytes: int = Field(
        default=10 * 1024**3, ge=1, description="the least recently used LoRAs leave LORA_FOLDER beyond this size"
    )
