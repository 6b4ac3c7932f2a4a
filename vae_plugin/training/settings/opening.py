"""The options of opening models and image files, declared once for training and for the commands."""

from __future__ import annotations

from typing import Any

from ...autoencoders.padding import PADDING_MODES
from ...datasets.reading import MAX_PIXELS
from ...errors import UserError
from ...options import as_typed, option


def max_image_pixels(**more: Any) -> Any:
    """`--max_image_pixels`, with further fields of `Declaration`."""
    return option(
        MAX_PIXELS,
        "Largest number of pixels of an image file. Larger ones are left out: a file of a few bytes can claim any "
        "size, and would take the memory for it.",
        at_least=1,
        at_most=10**12,
        **more,
    )


def value_range(**more: Any) -> Any:
    """`--value_range`, with further fields of `Declaration`; see `checked_range`."""
    return option(
        None,
        "The values of image files that become -1 and 1, as LOW HIGH; values beyond are clipped. By default those that "
        "the model records, or else what the type of the values says: 0 255 of 8 bits, 0 65535 of 16. Floats need it.",
        **more,
    )


def checked_range(given: tuple[float, ...] | None) -> tuple[float, float] | None:
    """The values of `--value_range`.

    Raises:
        UserError: if they are not two, the lower one first.
    """
    if given is None:
        return None
    if len(given) != 2 or not given[0] < given[1]:
        raise UserError(f"--value_range is {as_typed(given)}: give two numbers, the lower one first.")
    return given[0], given[1]


def remote_images(**more: Any) -> Any:
    """`--remote_images`, with further fields of `Declaration`."""
    return option(
        False,
        "Open the addresses (http, s3, ...) that rows of a data set name instead of holding an image. Give it only for "
        "data that you trust: otherwise such rows are left out.",
        **more,
    )


def padding_mode(**more: Any) -> Any:
    """`--padding_mode`, with further fields of `Declaration`."""
    return option(
        None,
        "How the convolutions of the model pad the borders of images: reflect is what community EQ VAEs need. By "
        "default as the config of the model records it, by zeros where it does not.",
        choices=PADDING_MODES,
        **more,
    )
