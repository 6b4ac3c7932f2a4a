from __future__ import annotations

import pytest

from support.encodable import COUNT, DAMAGED, OWN, photograph, tiny_vae
from vae_plugin import AutoencoderVQVAE


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two models: of a VAE with a compression of 2, and of a VQ-VAE."""
    folder = tmp_path_factory.mktemp("models")
    tiny_vae().save_pretrained(folder / "vae")
    AutoencoderVQVAE(**OWN, num_vq_embeddings=8).save_pretrained(folder / "vq")
    tiny_vae(block_out_channels=(8, 8, 8, 8)).save_pretrained(folder / "eight")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes, with an image that cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / ("cats" if number < 6 else "dogs") / f"{number:02d}.png" for number in range(COUNT)]
    photograph(paths)
    paths[DAMAGED].write_bytes(b"no image")
    return folder
