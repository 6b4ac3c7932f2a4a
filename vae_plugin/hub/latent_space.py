"""What a fine-tune did to the latents that pipelines hand to a denoiser, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .record import RunRecord


def denoiser_needs_after(record: RunRecord, kind: type[str] = str, *, folded: bool = False) -> str | None:
    """`denoiser_needs` of a run. Of those of 0.1, all fine-tunes but that of a decoder moved the latents.

    Args:
        record: of the run.
        kind: see `denoiser_needs`.
        folded: whether the scale is in the weights of a copy: the fields of the model do not concern its users.
    """
    facts = record.latent_space
    if not facts and record.base_model is not None and record.part != "decoder" and record.teacher is None:
        facts = {"moved": True}
    if folded:
        facts = {"moved": facts.get("moved", False)}
    return denoiser_needs(facts, record.base_model, kind)


def denoiser_needs(facts: Mapping[str, Any], base_model: str | None, kind: type[str] = str) -> str | None:
    """What a denoiser that was trained on the latents of the base model needs, in a sentence; None if nothing.

    Args:
        facts: `RunRecord.latent_space`.
        base_model: name of the base model.
        kind: `Markdown` for text in which the facts are escaped.
    """
    if not facts.get("moved"):
        return None
    fields = {name: field for name, field in facts.items() if isinstance(field, dict)}
    changes = [
        kind("{} was {} and is {}").format(name, _written(field.get("was")), _written(field.get("is")))
        for name, field in fields.items()
        if field.get("was") != field.get("is") and not isinstance(field.get("is") or field.get("was"), list)
    ]
    scale = kind(" ({})").format(kind(", ").join(changes)) if changes else ""
    base = base_model or "the base model"
    if facts.get("rescaled_only"):
        return kind(
            "Pipelines scale the latents otherwise than before{}: a denoiser trained on those of {} needs the old "
            "values in config.json, or training on the new ones."
        ).format(scale, base)
    return kind(
        "The latent space has moved{}: a denoiser trained on the latents of {} needs training on the new ones, scaled "
        "by the new values. --train decoder or --latent_anchor keeps the latents."
    ).format(scale, base)


def _written(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
