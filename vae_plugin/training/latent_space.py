"""What a fine-tune does to the latents that pipelines hand to a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..autoencoders import Adapter


class LatentSpace:
    """The latents of a model that is fine-tuned, as pipelines see them, beside those of the model that it began as.

    Args:
        adapter: of the model, before its statistics are written.
        stays: whether its unscaled latents are meant to stay as they are.
    """

    def __init__(self, adapter: Adapter, stays: bool) -> None:
        self.adapter, self.stays = adapter, stays
        self.was = adapter.latent_scaling()

    def facts(self) -> dict[str, Any]:
        """What run.json tells of it.

        Returns:
            "moved", whether pipelines give a denoiser other latents than before; "rescaled_only", whether that is by
            their scale alone; and each field of `Adapter.latent_scaling` as {"was": ..., "is": ...}.
        """
        now = self.adapter.latent_scaling()
        fields = {name: {"was": self.was.get(name), "is": now.get(name)} for name in {**self.was, **now}}
        rescaled = any(field["was"] != field["is"] for field in fields.values())
        return {"moved": rescaled or not self.stays, "rescaled_only": rescaled and self.stays, **fields}


def denoiser_needs(facts: Mapping[str, Any], base_model: str | None) -> str | None:
    """What a denoiser that was trained on the latents of the base model needs, in a sentence; None if nothing."""
    if not facts.get("moved"):
        return None
    changes = [
        f"{name} was {_written(field['was'])} and is {_written(field['is'])}"
        for name, field in facts.items()
        if isinstance(field, dict) and field["was"] != field["is"] and not isinstance(field["is"] or field["was"], list)
    ]
    scale = f" ({', '.join(changes)})" if changes else ""
    base = base_model or "the base model"
    if facts["rescaled_only"]:
        return (
            f"Pipelines scale the latents otherwise than before{scale}: a denoiser trained on those of {base} needs "
            "the old values in config.json, or training on the new ones."
        )
    return (
        f"The latent space has moved{scale}: a denoiser trained on the latents of {base} needs training on the new "
        "ones, scaled by the new values. --train decoder or --latent_anchor keeps the latents."
    )


def _written(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
