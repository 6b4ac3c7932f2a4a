"""A picture of what each latent tells of each factor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

CELL, MARGIN, TEXT = 56, 12, 15  # pixels
MOST_ROWS = 64
LOW, HIGH = (247, 251, 255), (8, 48, 107)  # ColorBrewer's Blues


def heat_map(matrix: torch.Tensor, factors: Sequence[str], title: str = "") -> Image.Image:
    """Draw normalised mutual information, a row for each latent and a column for each factor, with the numbers.

    Args:
        matrix: I(z; v) / H(v), (D, F) in [0, 1]; of more than 64 latents those that tell most are shown.
        factors: names of the columns.
        title: a line above.
    """
    telling = most_telling(matrix)
    font = ImageFont.load_default(TEXT)
    labels = [f"z{row}" for row in telling.tolist()]
    left = MARGIN + max(_width(font, label) for label in labels) + MARGIN
    cell = max(CELL, *(_width(font, name) + MARGIN for name in factors))
    top = MARGIN + 2 * (TEXT + MARGIN)
    width = max(left + cell * len(factors), MARGIN + _width(font, title)) + MARGIN
    picture = Image.new("RGB", (width, top + CELL * len(labels) + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), title, "black", font)
    for column, name in enumerate(factors):
        draw.text((left + cell * (column + 0.5), top - MARGIN), name, "black", font, anchor="mb")
    for i, (row, label) in enumerate(zip(telling.tolist(), labels, strict=True)):
        middle = top + CELL * (i + 0.5)
        draw.text((left - MARGIN, middle), label, "black", font, anchor="rm")
        for column, value in enumerate(matrix[row].tolist()):
            corner = left + cell * column, top + CELL * i
            draw.rectangle((*corner, corner[0] + cell - 2, corner[1] + CELL - 2), _colour(value))
            ink = "white" if value > 0.5 else "black"
            draw.text((left + cell * (column + 0.5), middle), f"{value:.2f}", ink, font, anchor="mm")
    return picture


def most_telling(matrix: torch.Tensor) -> torch.Tensor:
    """The rows of a matrix (D, F) with the 64 largest maxima, in their order."""
    return matrix.max(1).values.argsort(descending=True, stable=True)[:MOST_ROWS].sort().values


def _colour(value: float) -> tuple[int, ...]:
    return tuple(round(low + (high - low) * min(1, max(0, value))) for low, high in zip(LOW, HIGH, strict=True))


def _width(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    return int(font.getlength(text)) + 1
