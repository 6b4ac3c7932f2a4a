"""Videos are refused wherever images enter, with the reason."""

import numpy as np
import pytest
import torch

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.metrics import evaluate, psnr, ssim
from vae_plugin.widgets import LatentLab

NAMES = ["AutoencoderKL", "AutoencoderKLWan", "AutoencoderKLHunyuanImageRefiner"]
REASON = "this package works with images, not with videos"


def videos(frames=5):
    return torch.rand(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_models_take_one_frame_of_images_and_latents(name):
    adapter, one = adapt(tiny(name)), videos(1)
    torch.testing.assert_close(adapter.reconstruct(one), adapter.reconstruct(one[:, :, 0]))
    for give in (adapter.latents, adapter.posterior, adapter.reconstruct):
        with pytest.raises(ValueError, match=rf"5 frames were given, of shape \(2, 3, 5, 16, 16\): {REASON}"):
            give(videos())
    with pytest.raises(ValueError, match=f"3 frames were given.*{REASON}"):
        adapter.decode(torch.zeros(2, 4, 3, 8, 8))


def test_measures_name_the_shape_and_the_reason():
    for measure in (lambda x: evaluate(tiny("AutoencoderKLWan"), [x]), lambda x: psnr(x, x), lambda x: ssim(x, x)):
        with pytest.raises(ValueError, match=rf"\(2, 3, 5, 16, 16\).*{REASON}"):
            measure(videos())


def test_the_lab_refuses_videos_when_they_are_given():
    for given in (videos(), np.zeros((2, 5, 16, 16, 3), np.uint8)):
        with pytest.raises(ValueError, match=f"images were given with the shape .*: {REASON}"):
            LatentLab(tiny("AutoencoderKLWan"), images=given)
    lab = LatentLab(tiny("AutoencoderKLWan"), images=videos(1), resolution=16)
    torch.testing.assert_close(lab.images[1], videos(1)[1, :, 0])
    with pytest.raises(ValueError, match=f"{REASON}, so of one frame give"):
        lab.encode(videos()[0])
    lab.close()
