"""What the peers of bench.submit and bench.pickup take: the fields of Darkroom's request that the benchmarks send."""

from pydantic import BaseModel, Field


class Input(BaseModel):
    prompt: str = Field(max_length=4000)
    width: int = Field(default=64, ge=16, le=4096)
    height: int = Field(default=64, ge=16, le=4096)
    num_inference_steps: int = Field(default=4, ge=1, le=50)
    seed: int | None = None


class Request(BaseModel):
    model: str
    input: Input
