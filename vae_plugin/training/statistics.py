"""What is set from the training data once the weights are final: the latents' mean and variance, the optimal sigma.

Every process calls these functions with its own shares of the same batches, and gets the same result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import torch

from ..autoencoders import Adapter, LatentChange
from ..errors import UserError
from ..metrics import RunningMoments
from ..metrics.preview import LatentToRGB
from ..models.aggregate import kl_terms
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from ..models.networks import pad_to_multiple
from ..models.posteriors import DiagonalGaussian
from ..models.shares import Share, as_share
from .failures import StepFailed

AGGREGATED_IMAGES, AGGREGATED_NUMBERS = 1000, 2**24  # at most, in the sums over all pairs of images


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


class LatentStatistics:
    """What one pass over training images tells of a model's latents.

    Of samples rather than means, because a diffusion model is trained on samples; over a whole set rather than one
    batch, whose statistics are not those of the set.

    Args:
        adapter: of the autoencoder.
        batches: images (B, C, H, W) in [-1, 1].
        seed: of the samples.
    """

    @torch.no_grad()
    def __init__(self, adapter: Adapter, batches: Iterable[torch.Tensor | Share], seed: int = 0) -> None:
        self.adapter = adapter
        self._moments = RunningMoments()
        self._preview = LatentToRGB(adapter.statistics_patch) if has_preview(adapter) else None
        self._change: LatentChange | None = None
        generator = torch.Generator().manual_seed(seed)
        for share in map(as_share, batches):
            x, count = share.images.to(adapter.model.device, adapter.model.dtype), len(share.numbers)
            z = adapter.sample_latents(x, share.noise(generator))
            self._moments.update(adapter.statistics_vectors(z[:count]))
            if self._preview is not None:
                seen = adapter.onnx_latents((z,)) if adapter.discrete else z
                self._preview.update(seen[:count], pad_to_multiple(x, adapter.spatial_compression_ratio)[:count])
        self._moments.all_reduce()
        if self._preview is not None:
            self._preview.all_reduce()

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation per channel, over all positions: (C,) each, as the latents were in the pass.

        Raises:
            StepFailed: if there is no scale to tell: they are not finite, or all equal.
        """
        mean, std = self._moments.mean, self._moments.std
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise StepFailed("the latents of training images are NaN or infinite")
        if not (std > 0).any():
            more = "Give more images, or --latent_scaling keep"
            raise StepFailed("the latents of all training images are equal", more)
        return mean, std

    def write(self) -> None:
        """Let pipelines see the latents with mean 0 and variance 1.

        How that is done is up to the family of the model, see `Adapter.write_latent_statistics`.
        """
        self._change = self.adapter.write_latent_statistics(*self.moments())

    def seen(self) -> dict[str, float]:
        """The latents as pipelines see them: "latents_mean" and "latents_std" over all channels, ideally 0 and 1."""
        mean, std = self.moments()
        if self._change is not None:
            mean, std = (mean - self._change.mean) / self._change.std, std / self._change.std
        mean, std = self.adapter.pipeline_statistics(mean, std)
        pooled = mean.mean()
        return {
            "latents_mean": pooled.item(),
            "latents_std": (std.square() + (mean - pooled).square()).mean().sqrt().item(),
        }

    @torch.no_grad()
    def preview(self) -> dict[str, Any]:
        """The matrix that makes a picture of latents without a network, see `LatentToRGB`.

        Of the latents as a pipeline gives them to its denoiser, which is what previewers have during sampling; of a
        discrete model those that are decoded.

        Returns:
            `LatentToRGB.result`; nothing for images that are not RGB, and latents without a grid.
        """
        if self._preview is None or not self._preview.channels:
            return {}
        patch = torch.zeros(self._preview.channels, *self._preview.patch, dtype=torch.float64)
        ends = torch.stack([patch, patch + 1])
        if self._change is not None:
            mean, std = (exact(values).view(-1, 1, 1) for values in (self._change.mean, self._change.std))
            ends = (ends - mean) / std
        # What follows is linear: two latents tell it.
        low, high = ends if self.adapter.discrete else self.adapter.pipeline_latents(ends)
        return self._preview.result(high - low, low) or {}


def has_preview(adapter: Adapter) -> bool:
    """Whether a picture can be made of the latents: of images that are RGB, on a grid."""
    return adapter.in_channels == 3 and adapter.only_image_size is None


@torch.no_grad()
def measured_kl_terms(adapter: Adapter, batches: Iterable[torch.Tensor | Share], seed: int = 0) -> dict[str, float]:
    """What the KL consists of, with the aggregate posterior of these images alone, see `kl_terms`.

    Args:
        adapter: of an autoencoder with a Gaussian posterior.
        batches: images (B, C, H, W) in [-1, 1].
        seed: of the samples.

    Returns:
        "mutual_information_nats", "total_correlation_nats" and "dimension_kl_nats", means over the "kl_terms_images"
        that were taken: the first thousand of one size, and fewer of latents with many dimensions.
    """
    generator, parts = torch.Generator().manual_seed(seed), []
    for share in map(as_share, batches):
        x, count = share.images.to(adapter.model.device, adapter.model.dtype), len(share.numbers)
        posterior = adapter.posterior(x)
        assert isinstance(posterior, DiagonalGaussian)
        z = posterior.sample(share.noise(generator))
        parts.append(tuple(t[:count].float().cpu() for t in (posterior.mean, posterior.logvar, z)))
    rounds = zip_longest(*objects_over_processes(parts))
    taken = [part for one_round in rounds for part in one_round if part is not None]
    taken = [part for part in taken if part[0].shape[1:] == taken[0][0].shape[1:]]
    most = min(AGGREGATED_IMAGES, math.isqrt(AGGREGATED_NUMBERS // taken[0][0][0].numel()) or 1)
    mean, logvar, z = (torch.cat(tensors)[:most] for tensors in zip(*taken, strict=True))
    terms = kl_terms(DiagonalGaussian(mean, logvar), z, len(z), "stratified")
    return {**{f"{name}_nats": value.mean().item() for name, value in vars(terms).items()}, "kl_terms_images": len(z)}


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
