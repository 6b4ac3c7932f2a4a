"""The notebook component: `LatentLab(model)` shows encoding, decoding and latent arithmetic live."""

from vae_plugin.widgets.lab import LatentLab
from vae_plugin.widgets.shelf import Saved, Shelf

__all__ = ["LatentLab", "Saved", "Shelf"]
