"""What is set from the training data once the weights are final: the latents' mean and variance, the optimal sigma."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..autoencoders import Adapter
from ..metrics import RunningMoments
from ..models.exact import exact


@torch.no_grad()
def latent_statistics(
    adapter: Adapter, batches: Iterable[torch.Tensor], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the latents per channel, over all positions: (C,) each.

    Of samples rather than means, because a diffusion model is trained on samples; over a whole set rather than one
    batch, whose statistics are not those of the set.

    Args:
        adapter: of the autoencoder.
        batches: images (B, C, H, W) in [-1, 1].
        seed: of the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    moments = RunningMoments()
    for batch in batches:
        x = batch.to(adapter.model.device, adapter.model.dtype)
        moments.update(adapter.statistics_vectors(adapter.sample_latents(x, generator)))
    return moments.mean, moments.std


def normalize_latents(adapter: Adapter, batches: Iterable[torch.Tensor], seed: int = 0) -> None:
    """Measure the latents over training images, and let pipelines see them with mean 0 and variance 1.

    How that is done is up to the family of the model, see `Adapter.write_latent_statistics`.
    """
    adapter.write_latent_statistics(*latent_statistics(adapter, batches, seed))


@torch.no_grad()
def measured_latents(adapter: Adapter, batches: Iterable[torch.Tensor], seed: int = 0) -> dict[str, float]:
    """The latents as pipelines see them: "latents_mean" and "latents_std" over all channels, ideally 0 and 1."""
    mean, std = adapter.pipeline_statistics(*latent_statistics(adapter, batches, seed))
    pooled = mean.mean()
    return {
        "latents_mean": pooled.item(),
        "latents_std": (std.square() + (mean - pooled).square()).mean().sqrt().item(),
    }


@torch.no_grad()
def fit_noise_scale(adapter: Adapter, batches: Iterable[torch.Tensor], seed: int = 0) -> None:
    """Set an "optimal" sigma to its maximum-likelihood value over training images; any other is left alone.

    During training it is an average over past steps, when the reconstructions were worse, and of weights that a moving
    average has replaced.
    """
    scale = getattr(adapter.likelihood, "scale", None)
    if adapter.likelihood is None or scale is None or scale.setting != "optimal":
        return
    model, generator = adapter.model, torch.Generator().manual_seed(seed)
    total, count = 0.0, 0
    for batch in batches:
        x = batch.to(model.device, model.dtype)
        output = model.decoder_output(model.posterior(x).sample(generator), x.shape[-2:])
        deviation = (exact(x) - exact(adapter.likelihood.mean(output))).abs().pow(scale.power)
        total, count = total + deviation.sum().item(), count + deviation.numel()
    scale.fit(torch.tensor(total / count))
