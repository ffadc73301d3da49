"""Which weight files of a pipeline's parts are read: one variant of each.

Files are named `diffusion_pytorch_model.safetensors`, or `….fp16.safetensors` for a variant, with `-00001-of-00003`
after it where a part has several files (https://huggingface.co/docs/diffusers/using-diffusers/loading, "Variants").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.engine.interface import ModelNotLoaded

WEIGHTS = ".safetensors"
NAME = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>[^.]+?))?(?:-\d{5}-of-\d{5})?(?:\.(?P<old_variant>[^.]+))?\.safetensors"
)
FULL = ""  # the variant without a name


@dataclass(frozen=True)
class Variants:
    """What is read of a pipeline."""

    variant: str  # what diffusers is told; parts that don't have it are read in full
    files: Mapping[str, Sequence[str]]  # part → names of its weight files


def variants_of(where: str, parts: Mapping[str, Sequence[str]], asked: str) -> Variants:
    """Choose the files. `parts`: part → the names in its folder; `where`, for messages, is the folder or hub id.

    Without a variant that is asked for, all parts are read in full. If some can't be, their only variant is read, by
    the other parts too if they have it, as diffusers does it. Raises ModelNotLoaded if no part has what is asked for,
    or if several variants could be meant.
    """
    found = {part: by_variant for part, names in parts.items() if (by_variant := _by_variant(names))}
    known = sorted({variant for by_variant in found.values() for variant in by_variant if variant != FULL})
    if asked and asked not in known:
        has = f"it has {', '.join(known)}" if known else "its files have no variants"
        raise ModelNotLoaded(f'{where} has no weights of the variant "{asked}": {has}. Check `variant` in models.toml')
    variant = asked or _only_one(where, found)
    chosen = {part: variant if variant in by_variant else FULL for part, by_variant in found.items()}
    for part, each in chosen.items():
        if each not in found[part]:
            others = ", ".join(sorted(found[part]))
            raise ModelNotLoaded(f'{where}: {part} has no weights of the variant "{variant}", only of {others}')
    return Variants(variant, {part: found[part][each] for part, each in chosen.items()})


def _by_variant(names: Sequence[str]) -> dict[str, list[str]]:
    """Variant → its weight files. Where both one file and several hold the weights, diffusers reads the several."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if match := NAME.fullmatch(name):
            found.setdefault(match["variant"] or match["old_variant"] or FULL, []).append(name)
    return {variant: [name for name in files if "-of-" in name] or files for variant, files in found.items()}


def _only_one(where: str, found: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The variant of the parts that have no full weights."""
    needed = {part: set(by_variant) for part, by_variant in found.items() if FULL not in by_variant}
    if not needed:
        return FULL
    common = set.intersection(*needed.values())
    if len(common) != 1:
        each = "; ".join(f"{part}: {', '.join(sorted(variants))}" for part, variants in sorted(needed.items()))
        raise ModelNotLoaded(f"{where} has its weights in several variants ({each}): set `variant` in models.toml")
    return common.pop()
