"""Every configuration in examples/ trains, and accelerate understands those of examples/launch/."""

from pathlib import Path

import pytest
import torch
from accelerate.commands.config import load_config_from_file
from diffusers import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image

from vae_plugin import finetune
from vae_plugin.autoencoders.loading import load_autoencoder
from vae_plugin.options import parse
from vae_plugin.training.losses import PerceptualDistance
from vae_plugin.training.settings import FinetuneOptions

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PUBLISHED = {"pretrained_model_name_or_path", "teacher"}  # what a configuration takes from elsewhere


def network() -> PerceptualDistance:
    """In place of the published one."""
    features = torch.nn.Conv2d(3, 4, 3)
    features.forward = lambda x: (torch.nn.Conv2d.forward(features, x),)
    return PerceptualDistance(features)


def photographs(folder: Path, count: int = 40) -> Path:
    """Images of two colours each."""
    folder.mkdir()
    for i in range(count):
        image = Image.new("RGB", (40, 36), (6 * i, 90, 200 - 4 * i))
        image.paste((250, 5 * i, 30), (i % 30, 5, 40, 30))
        image.save(folder / f"{i:02d}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("config", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configuration_trains(config, tmp_path):
    words = ["--config", str(config), "--output_dir", str(tmp_path / "out"), "--max_train_steps", "2"]
    words += ["--num_validation_images", "16"]
    options = parse(FinetuneOptions, ["--config", str(config)])
    if options.data.train_data_dir is not None:
        words += ["--train_data_dir", str(photographs(tmp_path / "photographs")), "--resolution", "32"]
    else:
        words += ["--circles_length", "300"]
    if options.loss.perceptual_loss is not None:
        words += ["--perceptual_loss", "test_examples:network"]
    if options.loss.disc_start is not None:
        words += ["--disc_start", "1"]
    model = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    model.save_pretrained(tmp_path / "published")
    for name in PUBLISHED:
        if getattr(options.model, name) is not None:
            words += [f"--{name}", str(tmp_path / "published")]
    finetune.main(words, "finetune.py")
    assert isinstance(load_autoencoder(str(tmp_path / "out")).model, ModelMixin)


@pytest.mark.parametrize("config", sorted((EXAMPLES / "launch").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_understands_the_launch_configuration(config):
    loaded = load_config_from_file(str(config))
    assert loaded.num_processes == {"1-gpu": 1, "8-gpus": 8, "8x8-gpus": 64, "deepspeed": 8}[config.stem]
