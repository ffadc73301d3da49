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
class Lora:
    """A LoRA that is added to the model's weights."""

    name: str  # as in the catalog, or the URL of a safetensors file
    scale: float = 1.0  # 0.0: no effect


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
    image: str = ""  # the start image: the SHA-256 (hex) of the stored bytes; empty: drawn from noise alone
    more_images: tuple[str, ...] = ()  # likewise: the second and further images, for models that look at several
    mask: str = ""  # likewise; white is redrawn, black stays as in `image`; only with an image
    strength: float = 1.0  # how much noise `image` gets: 0.0 none, 1.0 nothing of it is left; only with an image
    loras: tuple[Lora, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What of a request with pictures or LoRAs is unset is left out: most requests have none of it."""
        stored = {
            name: value
            for name, value in vars(self).items()
            if name not in _LEFT_OUT_UNSET or value != _LEFT_OUT_UNSET[name]
        }
        return stored | {"loras": [asdict(lora) for lora in self.loras]} if self.loras else stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Parameters:
        """Read what another release may have written: keys that this one does not know are left out."""
        known = {key: value for key, value in stored.items() if key in cls.__dataclass_fields__}
        loras = tuple(Lora(**lora) for lora in known.get("loras", ()))
        return cls(**known | {"loras": loras, "more_images": tuple(known.get("more_images", ()))})

    def seed_of(self, index: int) -> int:
        """The seed of image `index` (from 0). After MAX_SEED comes 0."""
        return (self.seed + index) % (MAX_SEED + 1)


_LEFT_OUT_UNSET: dict[str, Any] = {"image": "", "more_images": (), "mask": "", "strength": 1.0, "loras": ()}
