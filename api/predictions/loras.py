"""Which LoRAs a request asks for, held against the catalog and LORA_ALLOW."""

from __future__ import annotations

from api.errors import InvalidInput
from api.parsing.validation import shown
from api.schemas import LoraInput, PredictionInput
from storage.catalog import Model
from storage.outbound.parse_url import InvalidURL, parse_url
from storage.predictions.parameters import Lora


def loras_for(model: Model, asked: PredictionInput, hosts: frozenset[str]) -> tuple[Lora, ...]:
    """`loras`, and `lora_weights` with `lora_scale` as Replicate's flux models have them. Raises InvalidInput.

    `hosts`: those whose LoRAs may be named by URL.
    """
    found = [
        _lora(model, f"input.loras.{number}", each.name, each.scale, hosts)
        for number, each in enumerate(
            LoraInput(name=each) if isinstance(each, str) else each for each in asked.loras or ()
        )
    ]
    if asked.lora_weights:
        found.append(_lora(model, "input.lora_weights", asked.lora_weights, asked.lora_scale, hosts))
    for number, lora in enumerate(found):
        if any(lora.name == other.name for other in found[:number]):
            raise InvalidInput("input.loras", f"{shown(lora.name)} is there twice: add its scales")
    return tuple(found)


def _lora(model: Model, field: str, name: str, scale: float | None, hosts: frozenset[str]) -> Lora:
    known = model.loras.get(name)
    if known is not None:
        return Lora(name, known.scale if scale is None else scale)
    if "://" in name:
        _check_url(field, name, hosts)
        return Lora(name, 1.0 if scale is None else scale)
    these = f"it has {', '.join(sorted(model.loras))}" if model.loras else "it has none"
    url = "" if hosts else "; no host is in LORA_ALLOW, so none can be named by URL either"
    raise InvalidInput(field, f"{model.name} has no LoRA {shown(name)}: {these}{url}")


def _check_url(field: str, url: str, hosts: frozenset[str]) -> None:
    """The worker fetches it, and checks its addresses then."""
    try:
        parts = parse_url(url)
    except InvalidURL as error:
        raise InvalidInput(field, str(error)) from None
    if parts.scheme != "https":
        raise InvalidInput(field, "the URL must start with https://")
    if parts.host not in hosts:
        raise InvalidInput(field, f"LoRAs of {parts.host} are not taken: LORA_ALLOW={parts.host} would allow them")
    if not parts.request_target.partition("?")[0].lower().endswith(".safetensors"):
        raise InvalidInput(field, "the URL has to name a .safetensors file")
