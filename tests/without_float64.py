"""What runs on a device without float64: started by test_devices.py in a process of its own, one line for each part."""

import sys
import traceback
from pathlib import Path
from unittest import mock

import torch
from accelerate import Accelerator
from PIL import Image

from support import runs, tiny_diffusers, tiny_lab, tiny_vqvae
from support.fake_device import NAME, OnDevice
from vae_plugin import finetune, metrics
from vae_plugin.autoencoders import adapt
from vae_plugin.export.diffusers_folder import save_diffusers_folder
from vae_plugin.export.single_file import save_single_file
from vae_plugin.training import run as building
from vae_plugin.training.statistics import LatentStatistics, fit_noise_scale

DEVICE = torch.device(NAME, 0)
IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
OF_PRETRAINED = {"max_train_steps": 1, "num_validation_images": 2, "circles_hue": True, "resolution": 16}


def on_device(model):
    return adapt(model.to(DEVICE))


def train(folder, **changes):
    """A run whose model lives on the device from the start; a real one is moved there without new parameters."""
    make = building.make_losses

    def placed(*args, **kwargs):
        loss, discriminator = make(*args, **kwargs)
        return loss.to(DEVICE), None if discriminator is None else discriminator.to(DEVICE)

    there = mock.PropertyMock(return_value=DEVICE)
    with mock.patch.object(building, "make_losses", placed), mock.patch.object(Accelerator, "device", there):
        result = finetune.train(runs.options(folder, **{"circles_length": 8, "max_train_steps": 1, **changes}))
    assert result["psnr"] > 0


def base(folder, name="AutoencoderKL"):
    tiny_diffusers.tiny(name).save_pretrained(folder)
    return str(folder)


def a_new_vae(folder):
    train(folder)


def a_new_vq_vae(folder):
    train(folder, model_type="vqvae", codebook_size=8)


def a_fine_tune(folder):
    """With a measurement before the first step, and a discriminator."""
    changes = {"disc_start": 0, "disc_channels": 4, "disc_layers": 1, "learned_variance": True}
    train(folder / "out", pretrained_model_name_or_path=base(folder / "base"), **OF_PRETRAINED, **changes)


def evaluation(_):
    for model in (tiny_lab.tiny("conv"), tiny_lab.tiny("mlp"), tiny_lab.tiny("ema"), *every_class()):
        adapter = on_device(model)
        samples = 2 if adapter.gaussian and adapter.likelihood is not None else 0
        assert metrics.evaluate(adapter, IMAGES.split(4), num_importance_samples=samples)["num_images"] == 6


def statistics(_):
    models = [tiny_lab.tiny("conv"), tiny_lab.tiny("mlp"), tiny_lab.tiny("conv", use_post_quant_conv=False)]
    models += [tiny_vqvae.tiny(**options) for options in tiny_vqvae.QUANTIZERS.values()]
    for model in (*models, *every_class()):
        adapter = on_device(model)
        LatentStatistics(adapter, IMAGES.split(4)).write()
        fit_noise_scale(adapter, IMAGES.split(4))
        LatentStatistics(adapter, IMAGES.split(4)).seen()


def export(folder):
    for name in ("conv", "ema", "AutoencoderKL"):
        save_diffusers_folder(on_device(tiny_lab.tiny(name)), folder / name)
        assert (folder / name / "diffusion_pytorch_model.safetensors").is_file()
    save_single_file(on_device(tiny_lab.tiny("AutoencoderKL")), folder / "one.safetensors")


def lab(folder):
    for i in range(4):
        Image.new("RGB", (16, 16), (60 * i, 90, 0)).save(folder / f"{i}.png")
    for name in ("conv", "mlp", "ema"):
        with tiny_lab.open_lab(tiny_lab.tiny(name).to(DEVICE), str(folder)) as opened:
            opened.encode(folder / "1.png")
            opened.latent = opened.space.move(opened.latent, next(iter(opened.space.axes)), 0.5)
            assert opened.image.size == (16, 16)


def every_class():
    return [tiny_diffusers.tiny(name) for name in tiny_diffusers.BY_NAME]


def a_device_that_refuses(_):
    """The other parts show nothing unless this fails where it should."""
    x = IMAGES.to(DEVICE)
    assert isinstance(x, OnDevice)
    assert not isinstance(x.cpu().double(), OnDevice)
    for wrong in (x.double, lambda: x.to(torch.float64), lambda: IMAGES.to(DEVICE, torch.float64)):
        try:
            wrong()
        except TypeError:
            continue
        raise AssertionError("float64 was accepted")


PARTS = (a_device_that_refuses, a_new_vae, a_new_vq_vae, a_fine_tune, evaluation, statistics, export, lab)

if __name__ == "__main__":
    torch.set_num_threads(1)
    for part in PARTS:
        folder = Path(sys.argv[1]) / part.__name__
        folder.mkdir()
        try:
            part(folder)
            print("passed", part.__name__)
        except Exception:
            print("failed", part.__name__, traceback.format_exc().replace("\n", "\\n"))
