"""The matrix by which tools preview latents without a network, as code to paste."""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from .record import RunRecord
from .text import Markdown, fenced


def preview_code(record: RunRecord) -> Markdown | None:
    """Two assignments in Python by ComfyUI's names; None of a run that measured none.

    Raises:
        UserError: if the record was edited into something else.
    """
    if not record.latent_preview:
        return None
    factors, bias = record.latent_preview.get("factors"), record.latent_preview.get("bias")
    if not (isinstance(factors, list) and factors and all(map(_are_colours, [*factors, bias]))):
        raise UserError("latent_preview of run.json is no matrix of three columns with a bias: correct or remove it.")
    rows = "".join(f"    {_written(row)},\n" for row in factors)
    return fenced(f"latent_rgb_factors = [\n{rows}]\nlatent_rgb_factors_bias = {_written(bias)}", "python")


def _are_colours(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 3 and all(type(value) in (int, float) for value in row)


def _written(numbers: Any) -> str:
    return f"[{', '.join(f'{number:.4f}' for number in numbers)}]"
