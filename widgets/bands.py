"""The bands of images that a lab shows, of models whose images have many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vae_plugin.datasets.transforms import bands_to_show
from vae_plugin.errors import UserError
from vae_plugin.wording import shown


def check_bands(bands: Sequence[int] | int | None, channels: int) -> tuple[int, ...] | None:
    """The bands of an image to show, counted from 0: one in gray, or three as red, green and blue.

    Raises:
        UserError: for another number of them, or one that the images do not have.
    """
    if bands is None:
        return bands_to_show(channels)
    chosen = (bands,) if isinstance(bands, int) else tuple(bands) if isinstance(bands, Sequence) else ()
    if len(chosen) not in (1, 3) or not all(type(band) is int and 0 <= band < channels for band in chosen):
        raise UserError(
            f"bands is {shown(bands)}: give one band, or three for red, green and blue, each from 0 to {channels - 1}."
        )
    return chosen


class ShownBands:
    """Which bands are shown, and who draws them again when others are chosen.

    Args:
        chosen: see `check_bands`.
        channels: of the images.

    Attributes:
        chosen: one, or three; None for gray, RGB and RGBA as they are.
    """

    def __init__(self, chosen: Sequence[int] | int | None, channels: int) -> None:
        self.channels = channels
        self.chosen = check_bands(chosen, channels)
        self._listeners: list[Callable[[], None]] = []

    def choose(self, bands: Sequence[int] | int | None) -> None:
        """Show other bands.

        Raises:
            UserError: see `check_bands`; nothing has changed then.
        """
        self.chosen = check_bands(bands, self.channels)
        for listener in self._listeners:
            listener()

    def observe(self, listener: Callable[[], None]) -> None:
        """Call a function after each choice."""
        self._listeners.append(listener)
