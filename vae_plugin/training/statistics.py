"""What is set from the training data once the weights are final: the latents' mean and variance, the optimal sigma.

Every process calls these functions with its own shares of the same batches, and gets the same result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from ..autoencoders import Adapter
from ..errors import UserError
from ..metrics import RunningMoments
from ..metrics.preview import LatentToRGB
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from ..models.networks import pad_to_multiple
from ..models.shares import Share, as_share
from .failures import StepFailed


def check_spread(adapter: Adapter, images: int | None, resolution: int) -> None:
    """Refuse data whose latents are a single vector, which has no variance, before a step is made.

    Args:
        adapter: of the autoencoder.
        images: that it is trained on; None of a stream.
        resolution: side of the images in pixels.

    Raises:
        UserError: if it is so.
    """
    is_vector = adapter.only_image_size is not None or resolution <= adapter.spatial_compression_ratio
    if images == 1 and is_vector:
        raise UserError(
            "one training image has one latent vector here, whose variance cannot be measured: train on more images, "
            "or give --latent_scaling keep."
        )


@torch.no_grad()
def latent_statistics(
    adapter: Adapter, batches: Iterable[torch.Tensor | Share], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the latents per channel, over all positions: (C,) each.

    Of samples rather than means, because a diffusion model is trained on samples; over a whole set rather than one
    batch, whose statistics are not those of the set.

    Args:
        adapter: of the autoencoder.
        batches: images (B, C, H, W) in [-1, 1].
        seed: of the samples.

    Raises:
        StepFailed: if there is no scale to tell: they are not finite, or all equal.
    """
    generator = torch.Generator().manual_seed(seed)
    moments = RunningMoments()
    for share in map(as_share, batches):
        x = share.images.to(adapter.model.device, adapter.model.dtype)
        z = adapter.sample_latents(x, share.noise(generator))[: len(share.numbers)]
        moments.update(adapter.statistics_vectors(z))
    moments.all_reduce()
    if not (moments.mean.isfinite().all() and moments.std.isfinite().all()):
        raise StepFailed("the latents of training images are NaN or infinite")
    if not (moments.std > 0).any():
        raise StepFailed("the latents of all training images are equal", "Give more images, or --latent_scaling keep")
    return moments.mean, moments.std


def normalize_latents(adapter: Adapter, batches: Iterable[torch.Tensor | Share], seed: int = 0) -> None:
    """Measure the latents over training images, and let pipelines see them with mean 0 and variance 1.

    How that is done is up to the family of the model, see `Adapter.write_latent_statistics`.
    """
    adapter.write_latent_statistics(*latent_statistics(adapter, batches, seed))


@torch.no_grad()
def measured_latents(adapter: Adapter, batches: Iterable[torch.Tensor | Share], seed: int = 0) -> dict[str, float]:
    """The latents as pipelines see them: "latents_mean" and "latents_std" over all channels, ideally 0 and 1."""
    mean, std = adapter.pipeline_statistics(*latent_statistics(adapter, batches, seed))
    pooled = mean.mean()
    return {
        "latents_mean": pooled.item(),
        "latents_std": (std.square() + (mean - pooled).square()).mean().sqrt().item(),
    }


@torch.no_grad()
def latent_preview(adapter: Adapter, batches: Iterable[torch.Tensor | Share], seed: int = 0) -> dict[str, Any]:
    """The matrix that makes a picture of latents without a network, see `LatentToRGB`.

    Of the latents as a pipeline gives them to its denoiser, which is what previewers have during sampling; of a
    discrete model those that are decoded.

    Args:
        adapter: of the autoencoder, after its statistics were written.
        batches: images (B, C, H, W) in [-1, 1].
        seed: of the samples.

    Returns:
        `LatentToRGB.result`; nothing for images that are not RGB, and latents without a grid.
    """
    if adapter.in_channels != 3 or adapter.only_image_size is not None:
        return {}
    generator, fit = torch.Generator().manual_seed(seed), LatentToRGB()
    for share in map(as_share, batches):
        x = share.images.to(adapter.model.device, adapter.model.dtype)
        z = adapter.sample_latents(x, share.noise(generator))
        seen = adapter.onnx_latents((z,)) if adapter.discrete else adapter.pipeline_latents(z)
        count = len(share.numbers)
        fit.update(seen[:count], pad_to_multiple(x, adapter.spatial_compression_ratio)[:count])
    fit.all_reduce()
    return fit.result() or {}


@torch.no_grad()
def fit_noise_scale(adapter: Adapter, batches: Iterable[torch.Tensor | Share], seed: int = 0) -> None:
    """Set an "optimal" sigma to its maximum-likelihood value over training images; any other is left alone.

    During training it is an average over past steps, when the reconstructions were worse, and of weights that a moving
    average has replaced.
    """
    scale = getattr(adapter.likelihood, "scale", None)
    if adapter.likelihood is None or scale is None or scale.setting != "optimal":
        return
    model, generator = adapter.model, torch.Generator().manual_seed(seed)
    total, count = 0.0, 0
    for share in map(as_share, batches):
        x = share.images.to(model.device, model.dtype)
        output = model.decoder_output(model.posterior(x).sample(share.noise(generator)), x.shape[-2:])
        deviation = (exact(x) - exact(adapter.likelihood.mean(output))).abs().pow(scale.power)[: len(share.numbers)]
        total, count = total + deviation.sum().item(), count + deviation.numel()
    totals, counts = zip(*objects_over_processes((total, count)), strict=True)
    moment = sum(totals) / sum(counts)
    if not math.isfinite(moment):
        raise StepFailed("the reconstructions of training images are NaN or infinite")
    scale.fit(torch.tensor(moment))
