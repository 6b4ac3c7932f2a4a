"""What metrics.json says of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from diffusers.models.modeling_utils import ModelMixin

from ..autoencoders import AutoencoderVQVAE
from ..autoencoders.interface import OURS, evaluation_mode, posterior
from ..autoencoders.interface import reconstruct as reconstruct_by_mode
from ..models.posteriors import DiagonalGaussian
from ..objectives import bits_per_dim, elbo, importance_weighted_bound
from .codebook import CodebookUsage
from .latent import active_units
from .reconstruction import psnr, ssim


@torch.no_grad()
def evaluate(
    model: ModelMixin,
    batches: Iterable[torch.Tensor],
    *,
    num_importance_samples: int = 0,
    seed: int = 0,
    reconstruct: Callable[[ModelMixin, torch.Tensor], torch.Tensor] = reconstruct_by_mode,
    compare: Callable[[ModelMixin, torch.Tensor, torch.Tensor], dict[str, torch.Tensor]] | None = None,
    per_image: dict[str, list[float]] | None = None,
) -> dict[str, float]:
    """Reconstruction, likelihood and latent metrics over a set of images, each the mean over images.

    Args:
        model: any 2-D image autoencoder; set to evaluation mode for the time of the call.
        batches: images (B, C, H, W) in [-1, 1].
        num_importance_samples: K of the importance-weighted bound; 0 leaves it out.
        seed: of the samples of q(z|x).
        reconstruct: what is compared with the images; default: the decoded mode of q(z|x).
        compare: what else to measure: (model, images, reconstructions) -> values (B,) by their names.
        per_image: gets the values of each image, in order, by the same names.

    Returns:
        "psnr" (dB) and "ssim" of the reconstruction after rounding to 8 bits, and what `compare` gives; "psnr_std",
        "psnr_worst", "psnr_median" and "psnr_best" over the images; "num_images". Of our models "elbo_nats" and
        "kl_nats" per image by one sample of z, and "bits_per_dim" of that ELBO; of others with a Gaussian posterior
        "kl_nats". With a Gaussian posterior "active_units" (Burda et al. 2016, of at least two images) and, of ours and
        where asked for, "log_likelihood_nats" with "num_importance_samples"; of a VQ-VAE what `CodebookUsage.result`
        says.

    Raises:
        ValueError: if there is no image, or the importance-weighted bound is asked for of a model that has none.
    """
    discrete = isinstance(model, AutoencoderVQVAE)
    if discrete and num_importance_samples:
        raise ValueError("a VQ-VAE's posterior is certain: its ELBO is its bound, leave num_importance_samples out.")
    if num_importance_samples and not isinstance(model, OURS):
        raise ValueError(f"an {type(model).__name__} has no likelihood: leave num_importance_samples out.")
    usage = CodebookUsage(model.codebook_size) if discrete else None
    generator = torch.Generator().manual_seed(seed)
    columns: dict[str, list[torch.Tensor]] = {}
    means = []
    with evaluation_mode(model):
        for batch in batches:
            x = batch.to(model.device, model.dtype)
            reconstruction = reconstruct(model, x)
            values = {"psnr": psnr(reconstruction, x), "ssim": ssim(reconstruction, x)}
            if compare is not None:
                values |= compare(model, x, reconstruction)
            if isinstance(model, OURS):
                terms = elbo(model, x, generator)
                values |= {
                    "elbo_nats": terms.value,
                    "kl_nats": terms.kl,
                    "bits_per_dim": bits_per_dim(terms.value, x.shape[1:]),
                }
            q = posterior(model, x)
            if num_importance_samples:
                values["log_likelihood_nats"] = importance_weighted_bound(model, x, num_importance_samples, generator)
            if discrete:
                usage.update(q.indices)
            elif isinstance(q, DiagonalGaussian):
                values.setdefault("kl_nats", q.kl())
                means.append(q.mean.cpu())
            for name, value in values.items():
                columns.setdefault(name, []).append(value.double().cpu())
    if not columns:
        raise ValueError("there is no image to evaluate on.")
    values_of = {name: torch.cat(values) for name, values in columns.items()}
    if per_image is not None:
        per_image.update({name: values.tolist() for name, values in values_of.items()})
    result = {name: values.mean().item() for name, values in values_of.items()} | spread(values_of["psnr"])
    if discrete:
        result |= usage.result()
    elif sum(map(len, means)) > 1:  # a variance over images takes two of them
        result["active_units"] = active_units(torch.cat(means))
    result["num_images"] = len(values_of["psnr"])
    if num_importance_samples:
        result["num_importance_samples"] = num_importance_samples
    return result


def spread(psnr: torch.Tensor) -> dict[str, float]:
    """How the PSNR (N,) of images varies, in dB: standard deviation (of two and more), worst, median and best."""
    result = {"psnr_worst": psnr.min().item(), "psnr_median": psnr.median().item(), "psnr_best": psnr.max().item()}
    return {"psnr_std": psnr.std().item(), **result} if len(psnr) > 1 else result
