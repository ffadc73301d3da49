"""What a pipeline of diffusers makes of a request's guidance_scale and negative_prompt.

There are three kinds. Most use classifier-free guidance if guidance_scale is above 1. Distilled models (FLUX.1 [dev],
FLUX.2) take the scale as one more input, and no negative prompt. Qwen-Image has classifier-free guidance under the name
true_cfg_scale.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from storage.predictions.parameters import Parameters

Accepted = Mapping[str, inspect.Parameter]  # the parameters of a pipeline's `__call__`
TRUE_SCALE = "true_cfg_scale"
# What Qwen-Image's authors put where there is no negative prompt; without one there is no guidance at all.
NO_NEGATIVE_PROMPT = " "


def guidance_arguments(pipeline: Any, accepted: Accepted, asked: Sequence[Parameters]) -> dict[str, Any]:
    """What `__call__` gets for requests with the same guidance_scale, one for each image."""
    scale = asked[0].guidance_scale
    negative_prompts = [parameters.negative_prompt for parameters in asked]
    if not _is_under_true_scale(pipeline, accepted):
        # FLUX.1 would compute twice as much, and use both, for a true_cfg_scale above 1.
        return {"guidance_scale": scale, "negative_prompt": negative_prompts, TRUE_SCALE: 1.0}
    if scale <= 1:
        return {TRUE_SCALE: 1.0}
    return {TRUE_SCALE: scale, "negative_prompt": [text or NO_NEGATIVE_PROMPT for text in negative_prompts]}


def guidance_notes(pipeline: Any, accepted: Accepted, asked: Parameters) -> tuple[str, ...]:
    """Lines for the logs: what of the guidance has no effect. The API has said it for a guidance_scale of 0."""
    name, scale = type(pipeline).__name__, asked.guidance_scale
    if scale == 0:
        return ()
    notes = []
    embedded = _is_embedded(pipeline, accepted)
    if asked.negative_prompt:
        if "negative_prompt" not in accepted or embedded:
            notes.append(f"negative_prompt has no effect: {name} draws without one.")
        elif scale <= 1:
            notes.append(f"negative_prompt has no effect: guidance_scale is {scale:g}, and has to be above 1.")
    if _ignores_scale(pipeline, accepted, embedded=embedded):
        notes.append("guidance_scale has no effect: this model is distilled to draw without it.")
    return tuple(notes)


def _is_under_true_scale(pipeline: Any, accepted: Accepted) -> bool:
    if TRUE_SCALE not in accepted or _embeds_scale(pipeline):
        return False
    return "guidance_scale" not in accepted or accepted["guidance_scale"].default is None


def _is_embedded(pipeline: Any, accepted: Accepted) -> bool:
    """Whether the scale is an input of the model, if it is used at all."""
    if _is_under_true_scale(pipeline, accepted) or hasattr(type(pipeline), "do_classifier_free_guidance"):
        return False
    return _embeds_scale(pipeline) is not None


def _ignores_scale(pipeline: Any, accepted: Accepted, *, embedded: bool) -> bool:
    if getattr(pipeline.config, "is_distilled", False):  # FLUX.2 [klein]
        return True
    if "guidance_scale" not in accepted and TRUE_SCALE not in accepted:
        return True
    return embedded and not _embeds_scale(pipeline)


def _embeds_scale(pipeline: Any) -> bool | None:
    """Whether the transformer has an input for the scale; None for families that never have one."""
    transformer = getattr(pipeline, "transformer", None)
    return getattr(getattr(transformer, "config", None), "guidance_embeds", None)
