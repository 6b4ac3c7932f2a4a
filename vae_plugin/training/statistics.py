"""What is set from the training data once the weights are final: the latents' mean and variance, the optimal sigma."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..autoencoders import Autoencoder
from ..metrics import RunningMoments
from ..models.affine import CannotStandardizeError


@torch.no_grad()
def latent_statistics(
    model: Autoencoder, batches: Iterable[torch.Tensor], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Per channel, over the latents that pipelines see, at every place: (mean, std), each (latent_channels,).

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
        moments.update(model.encode(x.to(model.device, model.dtype)).latent_dist.sample(generator))
    return moments.mean, moments.std


def normalize_latents(model: Autoencoder, batches: Iterable[torch.Tensor], seed: int = 0) -> None:
    """Measure the latents over training images and make pipelines see them with mean 0 and variance 1.

    The statistics are folded into the weights (`standardize_latents`). A model that cannot take them exactly, without
    1x1 convolutions or with codes that cannot be moved, gets one `scaling_factor` and `shift_factor` for all channels.
    """
    mean, std = latent_statistics(model, batches, seed)
    try:
        model.standardize_latents(mean, std)
        return
    except CannotStandardizeError:
        pass
    pooled_mean = mean.mean()
    pooled_std = (std.square() + (mean - pooled_mean).square()).mean().sqrt()
    model.register_to_config(
        scaling_factor=1 / pooled_std.item(),
        shift_factor=pooled_mean.item(),
        latent_statistics={"mean": mean.tolist(), "std": std.tolist()},
    )


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
