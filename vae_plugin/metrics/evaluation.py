"""What metrics.json says of a model."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..autoencoders import Autoencoder, AutoencoderVQVAE
from ..objectives import bits_per_dim, elbo, importance_weighted_bound
from .codebook import CodebookUsage
from .latent import active_units
from .reconstruction import psnr, ssim


@torch.no_grad()
def evaluate(
    model: Autoencoder,
    batches: Iterable[torch.Tensor],
    *,
    num_importance_samples: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """Reconstruction, likelihood and latent metrics over a set of images, each the mean over images.

    Args:
        model: set to evaluation mode for the time of the call.
        batches: images (B, C, H, W) in [-1, 1].
        num_importance_samples: K of the importance-weighted bound; 0 leaves it out.
        seed: of the samples of q(z|x).

    Returns:
        "psnr" (dB) and "ssim" of the decoded posterior mode after rounding to 8 bits; "elbo_nats" and "kl_nats" per
        image by one sample of z; "bits_per_dim" of that ELBO; "num_images". Of a VAE "active_units" (Burda et al. 2016,
        of at least two images) and, where asked for, "log_likelihood_nats" with "num_importance_samples"; of a VQ-VAE
        what `CodebookUsage.result` says.

    Raises:
        ValueError: if there is no image, or the importance-weighted bound of a VQ-VAE is asked for, which has none.
    """
    discrete = isinstance(model, AutoencoderVQVAE)
    if discrete and num_importance_samples:
        raise ValueError("a VQ-VAE's posterior is certain: its ELBO is its bound, leave num_importance_samples out.")
    usage = CodebookUsage(model.codebook_size) if discrete else None
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    columns: dict[str, list[torch.Tensor]] = {}
    means = []
    try:
        for batch in batches:
            x = batch.to(model.device, model.dtype)
            reconstruction = model(x).sample
            terms = elbo(model, x, generator)
            values = {
                "psnr": psnr(reconstruction, x),
                "ssim": ssim(reconstruction, x),
                "elbo_nats": terms.value,
                "kl_nats": terms.kl,
                "bits_per_dim": bits_per_dim(terms.value, x.shape[1:]),
            }
            if num_importance_samples:
                values["log_likelihood_nats"] = importance_weighted_bound(model, x, num_importance_samples, generator)
            for name, value in values.items():
                columns.setdefault(name, []).append(value.double().cpu())
            if discrete:
                usage.update(model.encode(x).indices)
            else:
                means.append(model.posterior(x).mean.cpu())
    finally:
        model.train(was_training)
    if not columns:
        raise ValueError("there is no image to evaluate on.")
    result = {name: torch.cat(values).mean().item() for name, values in columns.items()}
    if discrete:
        result |= usage.result()
    elif sum(map(len, means)) > 1:  # a variance over images takes two of them
        result["active_units"] = active_units(torch.cat(means))
    result["num_images"] = len(torch.cat(columns["psnr"]))
    if num_importance_samples:
        result["num_importance_samples"] = num_importance_samples
    return result
