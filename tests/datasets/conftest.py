from __future__ import annotations

from pathlib import Path

import pytest

from vae_plugin.datasets import ImageDataset, load_images


@pytest.fixture
def load(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def load(place: Path | str, **options) -> ImageDataset:
        return load_images(train_data_dir=place, cache_dir=cache, **{"resolution": 8, "channels": 1, **options})

    return load
