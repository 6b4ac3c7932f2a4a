"""Image data: generated circles with known factors of variation, and image files through the `datasets` library."""

from .batches import draw, image_batches
from .circles import Circles
from .errors import DataError
from .factors import Factors, find_factors
from .images import ImageDataset, collate
from .latents import LatentDataset
from .loading import load_images, stream_images
from .reading import ImageReader
from .rules import LATEST, DataRules
from .shares import shared_batches
from .streaming import ImageStream

__all__ = [
    "LATEST",
    "Circles",
    "DataError",
    "DataRules",
    "Factors",
    "ImageDataset",
    "ImageReader",
    "ImageStream",
    "LatentDataset",
    "collate",
    "draw",
    "find_factors",
    "image_batches",
    "load_images",
    "shared_batches",
    "stream_images",
]
