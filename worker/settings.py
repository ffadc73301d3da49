"""Settings of the GPU worker, in addition to the shared ones."""

from __future__ import annotations

from pydantic import Field

from storage.settings import Settings


class WorkerSettings(Settings):
    """Every field is the environment variable of the same name in upper case."""

    device: str = Field(default="auto", description="cuda, cuda:1, mps, cpu; auto takes the first there is")
    stall_seconds: float = Field(
        default=120, gt=0, description="without progress for this long, a drawing is wedged and its worker exits"
    )
    grace_seconds: float = Field(
        default=25, ge=0, description="how long SIGTERM lets a drawing go on; below the orchestrator's own limit"
    )
    poll_seconds: float = Field(default=1.0, gt=0, description="the net under LISTEN")
    embed_parameters: bool = Field(
        default=True, description="write prompt, seed and the other parameters into the image files"
    )
