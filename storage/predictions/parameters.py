"""What is to be drawn: the API writes it, completed and checked, and the engine reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from storage.formats import DEFAULT

MAX_PRIORITY = 9
# Noise is drawn by torch's CPU generator, which reads the lowest 32 bits of a seed: there are no more pictures.
MAX_SEED = 2**32 - 1
# The largest seed that a request may give; ComfyUI's go up to it. What is above MAX_SEED is cut to 32 bits.
MAX_GIVEN_SEED = 2**64 - 1


@dataclass(frozen=True)
class Parameters:
    """One request for pictures, with nothing left open."""

    prompt: str
    width: int  # pixels
    height: int  # pixels
    num_inference_steps: int
    guidance_scale: float  # 0.0 is a value: no classifier-free guidance
    seed: int  # 0 to MAX_SEED; image k is drawn with seed + k
    num_outputs: int = 1
    negative_prompt: str = ""
    output_format: str = DEFAULT.name
    output_quality: int = 90  # of lossy formats
    previews: bool = False  # small pictures of the drawing, for who follows it

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Parameters:
        """Read what another release may have written: keys that this one does not know are left out."""
        return cls(**{key: value for key, value in stored.items() if key in cls.__dataclass_fields__})

    def seed_of(self, index: int) -> int:
        """The seed of image `index` (from 0). After MAX_SEED comes 0."""
        return (self.seed + index) % (MAX_SEED + 1)
