"""The notebook component: `LatentLab(model)` shows encode, decode and latent arithmetic live."""

from .lab import LatentLab
from .shelf import Saved, Shelf

__all__ = ["LatentLab", "Saved", "Shelf"]
