"""The numbers of metrics.json: what is measured of a model over a set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from diffusers.models.modeling_utils import ModelMixin

from ..autoencoders import Adapter, adapt, evaluation_mode
from ..models.exact import exact
from ..models.posteriors import DiagonalGaussian
from ..models.vqvae import CodePosterior
from ..objectives import bits_per_dim, elbo, importance_weighted_bound
from .codebook import CodebookUsage
from .latent import active_units
from .reconstruction import psnr, ssim


class Evaluation(dict[str, float]):
    """Metrics by name, as metrics.json has them.

    Attributes:
        per_image: the values of each image, in order, by the names of the metrics that are means over images.
    """

    def __init__(self, metrics: dict[str, float], per_image: dict[str, list[float]]) -> None:
        super().__init__(metrics)
        self.per_image = per_image


@torch.no_grad()
def evaluate(
    model: Adapter | ModelMixin,
    batches: Iterable[torch.Tensor],
    *,
    num_importance_samples: int = 0,
    seed: int = 0,
    reconstruct: Callable[[torch.Tensor], torch.Tensor] | None = None,
    compare: Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]] | None = None,
) -> Evaluation:
    """Measure reconstruction, likelihood and latents over a set of images; each metric is the mean over images.

    Args:
        model: any image autoencoder, or its adapter; in evaluation mode for the time of the call.
        batches: images (B, C, H, W) in [-1, 1].
        num_importance_samples: K of the importance-weighted bound; 0 leaves it out.
        seed: of the samples of q(z|x).
        reconstruct: images -> what they are compared with. Default: the decoded mode of q(z|x).
        compare: what else to measure: (images, reconstructions) -> values (B,) by name.

    Returns:
        "psnr" (dB) and "ssim" of the reconstruction after rounding to 8 bits, and what `compare` returns; "psnr_std",
        "psnr_worst", "psnr_median" and "psnr_best" over the images; "num_images". Of a model with a likelihood
        "elbo_nats" and "kl_nats" per image by one sample of z, and "bits_per_dim" of that ELBO; of others with a
        Gaussian posterior "kl_nats". With a Gaussian posterior "active_units" (Burda et al. 2016; of two or more
        images) and, with a likelihood and where asked for, "log_likelihood_nats" with "num_importance_samples". Of a
        codebook what `CodebookUsage.result` returns.

    Raises:
        ValueError: if there is no image, or the importance-weighted bound is asked for of a model that has none.
    """
    adapter = adapt(model)
    if num_importance_samples and (reason := no_importance_weighted_bound(adapter)) is not None:
        raise ValueError(f"{reason}: leave num_importance_samples out.")
    network, reconstruct = adapter.model, reconstruct or adapter.reconstruct
    usage: CodebookUsage | None = None
    generator = torch.Generator().manual_seed(seed)
    columns: dict[str, list[torch.Tensor]] = {}
    means = []
    with evaluation_mode(network):
        for batch in batches:
            x = batch.to(network.device, network.dtype)
            reconstruction = reconstruct(x)
            values = {"psnr": psnr(reconstruction, x), "ssim": ssim(reconstruction, x)}
            if compare is not None:
                values |= compare(x, reconstruction)
            if adapter.likelihood is not None:
                terms = elbo(network, x, generator)
                values |= {
                    "elbo_nats": terms.value,
                    "kl_nats": terms.kl,
                    "bits_per_dim": bits_per_dim(terms.value, x.shape[1:]),
                }
            q = adapter.posterior(x)
            if num_importance_samples:
                values["log_likelihood_nats"] = importance_weighted_bound(network, x, num_importance_samples, generator)
            if isinstance(q, CodePosterior):
                usage = usage or CodebookUsage(network.codebook_size)
                usage.update(q.indices)
            elif isinstance(q, DiagonalGaussian):
                values.setdefault("kl_nats", q.kl())
                means.append(q.mean.cpu())
            for name, value in values.items():
                columns.setdefault(name, []).append(exact(value))
    if not columns:
        raise ValueError("there is no image to evaluate on.")
    values_of = {name: torch.cat(values) for name, values in columns.items()}
    result: dict[str, float] = {name: values.mean().item() for name, values in values_of.items()}
    result |= spread(values_of["psnr"])
    if usage is not None:
        result |= usage.result()
    elif sum(map(len, means)) > 1:  # a variance over images takes two of them
        result["active_units"] = active_units(torch.cat(means))
    result["num_images"] = len(values_of["psnr"])
    if num_importance_samples:
        result["num_importance_samples"] = num_importance_samples
    return Evaluation(result, {name: values.tolist() for name, values in values_of.items()})


def no_importance_weighted_bound(adapter: Adapter) -> str | None:
    """Why a model has no importance-weighted bound; None if it has one."""
    if adapter.likelihood is None:
        return f"{adapter.class_name} has no likelihood"
    return None if adapter.gaussian else "the posterior of a VQ-VAE is certain, so that its ELBO is its bound"


def spread(psnr: torch.Tensor) -> dict[str, float]:
    """The spread of the PSNR (N,) over images, in dB: standard deviation (of two or more), worst, median and best."""
    result = {"psnr_worst": psnr.min().item(), "psnr_median": psnr.median().item(), "psnr_best": psnr.max().item()}
    return {"psnr_std": psnr.std().item(), **result} if len(psnr) > 1 else result
