"""What latents are calculated with: those on the shelf, and those of the lab's images."""

from __future__ import annotations

from vae_plugin.errors import UserError
from vae_plugin.widgets.image_set import ImageSet
from vae_plugin.widgets.shelf import Saved, ShelfKeeper
from vae_plugin.widgets.survey import Survey

IMAGE = "image:"  # begins the key of an image; its row in the lab's images follows


class Operands:
    """Finds a latent by its key: that of a saved latent, or "image:ROW".

    Args:
        keeper: owner of the shelf.
        survey: has the latents of the images.
        images: the lab's images.
    """

    def __init__(self, keeper: ShelfKeeper, survey: Survey, images: ImageSet) -> None:
        self._keeper = keeper
        self._survey = survey
        self._images = images

    def by_key(self, key: object) -> Saved:
        """The latent with a key; the posterior's mean for an image.

        Raises:
            UserError: if there is none, or the image was not encoded.
        """
        row = image_row(key)
        return self._keeper.shelf.by_key(key) if row is None else self.of_image(row)

    def of_image(self, row: int) -> Saved:
        """The latent of an image of the lab.

        Raises:
            UserError: if it was not encoded.
        """
        space = self._survey.require_space()
        if row not in space.rows:
            raise UserError(f"image {row} was not encoded: choose another one of the {len(space.rows)} that were.")
        return Saved(self._images.name(row), space.means[space.rows.index(row)].clone(), key=f"{IMAGE}{row}")


def image_row(key: object) -> int | None:
    """The row in the key of an image; None for the key of a saved latent."""
    digits = key.removeprefix(IMAGE) if isinstance(key, str) and key.startswith(IMAGE) else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
