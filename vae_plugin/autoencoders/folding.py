"""Weights of an `AutoencoderKL` whose latents fit the factors of a denoiser.

Tools such as ComfyUI read no factors beside an autoencoder: they take those of the denoiser that it is used with.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import nn

from ..errors import UserError
from ..models.affine import fold_into_input, fold_into_output
from ..models.exact import exact, rounded_to
from .scaling import channel_statistics

NO_SHIFT = 1e-6  # of the latents' spread: what six digits of a factor leave
LARGEST_SHIFT = 1000  # in what a denoiser sees: beside it float32 keeps latents to 6e-5


@torch.no_grad()
def fold_factors(model: AutoencoderKL, scaling_factor: float, shift_factor: float) -> None:
    """Change the latents z to z' so that (z' - shift_factor) * scaling_factor is what pipelines saw of z.

    What the encoder gives is divided by b and moved, and the decoder begins with the inverse, so that images are what
    they were but for rounding. The log-variances fall by 2 log b; `DiagonalGaussianDistribution` clamps them to -30
    and 20 as before, which is another limit of the old ones: below it a standard deviation is 3e-7 of a latent.

    Args:
        model: an `AutoencoderKL`, which is changed; statistics of each channel are folded too, where it has them.
        scaling_factor: of the denoiser, which the config states from here on.
        shift_factor: likewise.

    Raises:
        UserError: if the latents would have to be moved, and the first layer after them pads with zeros, or would be
            lost in the roundings of numbers as large as the shift.
    """
    if abs(shift_factor * scaling_factor) > LARGEST_SHIFT:
        raise UserError(
            f"--shift_factor {shift_factor:g} is so large beside what a denoiser with --scaling_factor "
            f"{scaling_factor:g} sees that roundings would change the latents: give one of at most "
            f"{LARGEST_SHIFT / scaling_factor:g}."
        )
    mean, spread = channel_statistics(model.config)
    spread = scaling_factor * spread
    moved = mean - shift_factor * spread  # z' = (z - moved) / spread
    after = model.decoder.conv_in if model.post_quant_conv is None else model.post_quant_conv
    if (moved.abs() <= NO_SHIFT * spread).all():
        moved = torch.zeros_like(moved)
    elif _pads_with_zeros(after):
        raise UserError(_cannot_move(mean, spread, shift_factor))
    before = model.encoder.conv_out if model.quant_conv is None else model.quant_conv
    fold_into_output(before, moved, spread)
    log_variance = before.bias[len(spread) :]
    log_variance.copy_(rounded_to(log_variance, exact(log_variance) - 2 * spread.log()))
    fold_into_input(after, moved, spread)
    model.register_to_config(
        scaling_factor=scaling_factor, shift_factor=shift_factor, latents_mean=None, latents_std=None
    )


def no_factors(class_name: str) -> UserError:
    """The error for a class of whose models no tool takes the factors from a denoiser."""
    return UserError(
        "--scaling_factor folds the statistics of the latents into the weights of an AutoencoderKL, whose factors some "
        f"tools take from the denoiser, and this model is {class_name}: leave it out."
    )


def _pads_with_zeros(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros" and any(side != 0 for side in layer.padding)


def _cannot_move(mean: torch.Tensor, spread: torch.Tensor, shift_factor: float) -> str:
    stays = mean / spread
    cure = f"give --shift_factor {stays[0].item():.9g}, with which they stay"
    if (stays - stays[0]).abs().max() > NO_SHIFT:
        cure = "no --shift_factor is right for all channels"
    return (
        f"--shift_factor {shift_factor:g} would move the latents, and this model has no 1x1 convolution after them: "
        "the decoder's first convolution pads them with zeros, which no weights can move along. Their scale alone can "
        f"be folded: {cure}."
    )
