"""What a fine-tune does to the latents that pipelines hand to a denoiser."""

from __future__ import annotations

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
