"""What the index of latents tells of the model and of the data, and knows them by."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from ..autoencoders import Adapter
from ..autoencoders.padding import PADDING_KEY
from ..datasets import ImageDataset


def model_facts(adapter: Adapter, source: str, revision: str | None = None) -> dict[str, Any]:
    """Of a model: its name without the path of this machine, its class, and the SHA-256 of its weights and config.

    Args:
        adapter: of the model.
        source: folder, file or id that it was opened by.
        revision: on the Hub.
    """
    config = {name: value for name, value in dict(adapter.config).items() if name[0] != "_" or name == PADDING_KEY}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(adapter.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    name = Path(os.path.abspath(source)).name if os.path.exists(source) else source
    return {"name": name, "revision": revision, "class": adapter.class_name, "sha256": digest.hexdigest()}


def data_facts(images: ImageDataset, split: str) -> dict[str, Any]:
    """Of the data: their name without the path of this machine, the digest of their files, and how many images."""
    origin = images.origin
    paths = origin.location.split(" ") if not os.path.exists(origin.location) else [origin.location]
    name = " ".join(Path(os.path.abspath(path)).name if os.path.exists(path) else path for path in paths)
    return {
        "name": name,
        "split": split,
        "revision": origin.revision,
        "digest": origin.digest,
        "image_column": images.image_column,
        "images": len(images),
    }
