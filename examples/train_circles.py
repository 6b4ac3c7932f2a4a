"""Train the model that `LatentLab()` opens by default: python examples/train_circles.py --output_dir OUT.

A VAE that encodes coloured circles as eight numbers, in less than 1 MB. It takes about twenty minutes on two CPU cores.
`config.json` and `diffusion_pytorch_model.safetensors` of OUT are the files in widgets/circles/.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vae_plugin.autoencoders import AutoencoderVAE
from vae_plugin.errors import exit_status
from vae_plugin.finetune import options as finetune_options
from vae_plugin.finetune import train
from vae_plugin.options import option, parse
from vae_plugin.training.settings import FinetuneOptions

RESOLUTION = 64
CHANNELS = (8, 8, 16, 24, 24, 24, 24)
NUMBERS = 8


@dataclass
class TrainingOptions:
    """Options of this script."""

    output_dir: str = option("out-lab", "Folder for the result.")
    decoder_steps: int = option(600, "Steps in which the decoder is trained alone.")
    train_steps: int = option(8000, "Steps after that, in which the whole model is trained.")
    seed: int = option(0, "Seed of every random number.")


def new_model(seed: int) -> AutoencoderVAE:
    """The model before training, with weights that carry a signal through its deep levels.

    From the fourth level on, a 3x3 convolution sees mostly its own padding: with the usual initial weights the signal
    fades, and training stays on a plateau of gray discs. Here each layer keeps the variance of its actual input.
    """
    torch.manual_seed(seed)
    model = AutoencoderVAE(
        block_out_channels=CHANNELS,
        latent_channels=NUMBERS,
        sample_size=RESOLUTION,
        norm_num_groups=1,
        mid_block_add_attention=False,
        likelihood="bernoulli",
    )

    def keep_variance(layer: nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        side = output.shape[-1]
        if layer.kernel_size[0] == 1:
            taps = 1.0
        elif layer.stride[0] == 2:
            taps = 9.0 if side > 1 else 4.0
        else:
            taps = ((3 * side - 2) / side) ** 2  # of nine, the average number that is not padding
        layer.weight.normal_(0, 1 / math.sqrt(layer.in_channels * taps))
        layer.bias.zero_()

    hooks = [m.register_forward_hook(keep_variance) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        posterior = model.posterior(torch.rand(2, 3, RESOLUTION, RESOLUTION) * 2 - 1)
        model.decoder_output(posterior.mean, (RESOLUTION, RESOLUTION))
        for hook in hooks:
            hook.remove()
        for name, parameter in model.named_parameters():
            if name.endswith("conv2.weight"):  # two branches are added
                parameter.mul_(0.5)
        model.quant_conv.weight[NUMBERS:] *= 0.1  # log sigma^2, small at first
        model.quant_conv.bias[NUMBERS:] = -3
        model.decoder.conv_out.weight.mul_(0.5)
    return model


def run(options: TrainingOptions) -> None:
    """Train the decoder alone, then the whole model, and write the result to the output folder."""
    with tempfile.TemporaryDirectory() as folder:
        begin, first = Path(folder) / "begin", Path(folder) / "decoder"
        new_model(options.seed).save_pretrained(begin)
        train(_options(options, begin, first, options.decoder_steps, train="decoder"))
        whole = Path(folder) / "whole"
        warmup = options.train_steps // 2
        train(_options(options, first, whole, options.train_steps, use_ema=True, kl_warmup_steps=warmup))
        model = AutoencoderVAE.from_pretrained(whole)
        model.register_to_config(_name_or_path="circles")
        model.save_pretrained(options.output_dir)
        shutil.copy(whole / "metrics.json", options.output_dir)
        shutil.copytree(whole / "samples", Path(options.output_dir) / "samples", dirs_exist_ok=True)
    print(f"The model, metrics.json and samples are in {options.output_dir}/")


def _options(options: TrainingOptions, source: Path, output_dir: Path, steps: int, **changes: Any) -> FinetuneOptions:
    return finetune_options(
        pretrained_model_name_or_path=str(source),
        dataset_name="circles",
        circles_hue=True,
        circles_length=20_000,
        resolution=RESOLUTION,
        train_batch_size=16,
        max_train_steps=steps,
        learning_rate=3e-3,
        lr_scheduler="cosine",
        lr_warmup_steps=min(50, steps // 4),
        seed=options.seed,
        output_dir=str(output_dir),
        **changes,
    )


def main() -> int:
    """Run from the command line."""
    prog, description = "python examples/train_circles.py", "Train the model that LatentLab() opens by default."
    return exit_status(lambda: run(parse(TrainingOptions, prog=prog, description=description)))


if __name__ == "__main__":
    sys.exit(main())
