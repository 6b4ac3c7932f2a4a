"""The matrix by which tools preview latents without a network, as code to paste."""

from __future__ import annotations

from .record import RunRecord
from .text import Markdown, fenced


def preview_code(record: RunRecord) -> Markdown | None:
    """Two assignments in Python by ComfyUI's names; None of a run that measured none."""
    factors, bias = record.latent_preview.get("factors"), record.latent_preview.get("bias")
    if not factors or not bias:
        return None
    rows = "".join(f"    {_written(row)},\n" for row in factors)
    return fenced(f"latent_rgb_factors = [\n{rows}]\nlatent_rgb_factors_bias = {_written(bias)}", "python")


def _written(numbers: list[float]) -> str:
    return f"[{', '.join(f'{float(number):.4f}' for number in numbers)}]"
