"""Latents of data sets on a disk: the layouts that `vae-plugin encode` writes, and the data set that reads them."""

from .dataset import LatentDataset
from .layout import FLIP, MANIFEST, Encoded, LatentFiles, Layout, Shard, ShardWriter
from .layouts import LAYOUTS

__all__ = ["FLIP", "LAYOUTS", "MANIFEST", "Encoded", "LatentDataset", "LatentFiles", "Layout", "Shard", "ShardWriter"]
