"""Export of a model that fits the factors of a denoiser."""

from __future__ import annotations

from typing import Any

from ..autoencoders import Adapter, adapt
from .diffusers_folder import plain


def with_factors(model: Adapter, scaling_factor: float, shift_factor: float) -> tuple[Adapter, str]:
    """A plain model whose latents fit these factors, and a sentence that says what was folded into its weights.

    Args:
        model: one of our autoencoders or of diffusers', which is not changed.
        scaling_factor: by which a denoiser's tools multiply the latents.
        shift_factor: that they subtract before.

    Raises:
        UserError: if the model cannot be one of diffusers', or its latents cannot be scaled so exactly.
    """
    folded = adapt(plain(model)).with_factors(scaling_factor, shift_factor)
    return folded, (
        f"Folded into the weights: by {_written(folded.latent_scaling())} a denoiser sees the latents that it saw by "
        f"{_written(model.latent_scaling()) or 'no factors'} of the model as it was; images stay as they were."
    )


def _written(fields: dict[str, Any]) -> str:
    """Fields of a config in a sentence; lists by their name alone."""
    return ", ".join(name if isinstance(value, list) else f"{name} {value:.6g}" for name, value in fields.items())
