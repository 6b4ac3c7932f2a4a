"""The matrix by which tools preview latents without a network, as code to paste."""

from __future__ import annotations

from typing import Any

from .record import RunRecord
from .text import Markdown, fenced


def preview_code(record: RunRecord) -> Markdown | None:
    """Two assignments in Python by ComfyUI's names; None of a run that measured none."""
    if not record.latent_preview:
        return None
    factors, bias = record.latent_preview["factors"], record.latent_preview["bias"]
    rows = "".join(f"    {_written(row)},\n" for row in factors)
    return fenced(f"latent_rgb_factors = [\n{rows}]\nlatent_rgb_factors_bias = {_written(bias)}", "python")


def _written(numbers: Any) -> str:
    return f"[{', '.join(f'{number:.4f}' for number in numbers)}]"
