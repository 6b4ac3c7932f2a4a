"""The options of opening models and image files, declared once for training and for the commands."""

from __future__ import annotations

from typing import Any

from ...autoencoders.padding import PADDING_MODES
from ...datasets.reading import MAX_PIXELS
from ...options import option


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
