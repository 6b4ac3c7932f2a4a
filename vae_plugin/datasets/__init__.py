"""Image data: generated circles with known factors of variation, and image files through the `datasets` library."""

from .batches import image_batches
from .circles import Circles
from .images import ImageDataset, collate
from .loading import load_images, stream_images
from .rules import LATEST, DataRules
from .streaming import ImageStream
from .transforms import DataError

__all__ = [
    "LATEST",
    "Circles",
    "DataError",
    "DataRules",
    "ImageDataset",
    "ImageStream",
    "collate",
    "image_batches",
    "load_images",
    "stream_images",
]
