"""What is set from the training data once the weights are final: the latents' mean and variance, the optimal sigma."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers import AutoencoderKLFlux2
from diffusers.models.modeling_utils import ModelMixin
from torch.nn import functional as F

from ..autoencoders import Autoencoder
from ..autoencoders.interface import OURS, pipeline_latents, posterior
from ..metrics import RunningMoments
from ..models.affine import CannotStandardizeError


@torch.no_grad()
def latent_statistics(
    model: ModelMixin, batches: Iterable[torch.Tensor], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Per channel, over the latents that `encode` gives, at every place: (mean, std), each (latent_channels,).

    Samples rather than means, because samples are what a diffusion model is trained on; a whole set rather than one
    batch, because one batch is not it.

    Args:
        model: the autoencoder.
        batches: images (B, C, H, W) in [-1, 1].
        seed: of the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    moments = RunningMoments()
    for x in batches:
        x = x.to(model.device, model.dtype)
        q = model.encode(x).latent_dist if isinstance(model, OURS) else posterior(model, x)
        moments.update(_patched(model, q.sample(generator)))
    return moments.mean, moments.std


def normalize_latents(model: ModelMixin, batches: Iterable[torch.Tensor], seed: int = 0) -> None:
    """Measure the latents over training images and make pipelines see them with mean 0 and variance 1.

    Of our models the statistics are folded into the weights (`standardize_latents`); one that cannot take them exactly,
    without 1x1 convolutions or with codes that cannot be moved, gets one `scaling_factor` and `shift_factor` for all
    channels. diffusers' classes get what their pipelines read: `AutoencoderKLFlux2` the running mean and variance of
    its batch norm, the others a `scaling_factor`, and a `shift_factor` where the config has one already (pipelines of
    a model that has none do not subtract it).
    """
    mean, std = latent_statistics(model, batches, seed)
    if isinstance(model, AutoencoderKLFlux2):
        model.bn.running_mean.copy_(mean)
        model.bn.running_var.copy_(std.square())
        return
    if isinstance(model, OURS):
        try:
            model.standardize_latents(mean, std)
            return
        except CannotStandardizeError:
            pass
    shifts = isinstance(model, OURS) or model.config.get("shift_factor") is not None
    centre = mean.mean() if shifts else mean.new_zeros(())
    scale = (std.square() + (mean - centre).square()).mean().sqrt()
    changes = {"scaling_factor": 1 / scale.item()}
    if shifts:
        changes["shift_factor"] = centre.item()
    if isinstance(model, OURS):
        changes["latent_statistics"] = {"mean": mean.tolist(), "std": std.tolist()}
    model.register_to_config(**changes)


@torch.no_grad()
def measured_latents(model: ModelMixin, batches: Iterable[torch.Tensor], seed: int = 0) -> dict[str, float]:
    """What pipelines see of the latents: "latents_mean" and "latents_std" over all channels, 0 and 1 at best."""
    mean, std = latent_statistics(model, batches, seed)
    if isinstance(model, AutoencoderKLFlux2):
        scale = (model.bn.running_var + model.bn.eps).sqrt().cpu()
        mean, std = (mean - model.bn.running_mean.cpu()) / scale, std / scale
    else:
        low, high = (pipeline_latents(model, (mean + sign * std).view(1, -1, 1, 1)).flatten() for sign in (-1, 1))
        mean, std = (low + high) / 2, (high - low) / 2
    pooled = mean.mean()
    return {
        "latents_mean": pooled.item(),
        "latents_std": (std.square() + (mean - pooled).square()).mean().sqrt().item(),
    }


def _patched(model: ModelMixin, z: torch.Tensor) -> torch.Tensor:
    """The latents whose channels have statistics of their own: of `AutoencoderKLFlux2` patches of 2 x 2."""
    if not isinstance(model, AutoencoderKLFlux2):
        return z
    height, width = model.config.patch_size
    if z.shape[2] % height or z.shape[3] % width:
        z = z[..., : z.shape[2] // height * height, : z.shape[3] // width * width]
    return F.pixel_unshuffle(z, height)


@torch.no_grad()
def fit_noise_scale(model: Autoencoder, batches: Iterable[torch.Tensor], seed: int = 0) -> None:
    """Set an "optimal" sigma to its maximum-likelihood value over training images; another one is left alone.

    During training it is an average over past steps, when the reconstructions were worse, and of weights that a moving
    average has replaced.
    """
    scale = getattr(model.likelihood, "scale", None)
    if scale is None or scale.setting != "optimal":
        return
    generator = torch.Generator().manual_seed(seed)
    total, count = 0.0, 0
    for batch in batches:
        x = batch.to(model.device, model.dtype)
        output = model.decoder_output(model.posterior(x).sample(generator), x.shape[-2:])
        deviation = (x.double() - model.likelihood.mean(output).double()).abs().pow(scale.power)
        total, count = total + deviation.sum().item(), count + deviation.numel()
    scale.fit(torch.tensor(total / count))
