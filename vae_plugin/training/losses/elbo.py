"""The evidence lower bound as a loss, of a VAE and of a VQ-VAE."""

from __future__ import annotations

import torch

from ...autoencoders import Adapter
from ...models.distributed import gather_with_gradient, scale_gradient, sum_over_processes, world_size
from ...models.posteriors import DiagonalGaussian
from ...models.quantizers.entropy import perplexity
from ...models.vae import VAE
from ...models.vqvae import VQVAE
from ...objectives import ELBO, TrainingObjective, decode_samples, kl_terms, vq_loss
from .base import Terms, TrainingLoss


class ELBOLoss(TrainingLoss):
    """A VAE together with its training objective.

    Args:
        adapter: of the VAE.
        objective: the weights of the loss.
        dataset_size: number of training images; None of a stream, whose terms of the KL are not told.
    """

    def __init__(self, adapter: Adapter, objective: TrainingObjective, dataset_size: int | None = None) -> None:
        super().__init__(adapter)
        self.objective = objective
        self.dataset_size = dataset_size

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor, step: int, backgrounds: torch.Tensor | None = None
    ) -> Terms:
        """One training pass, see `TrainingLoss.forward`.

        Returns:
            "loss": nats per image and dimension of the image, so that the size of gradients does not depend on the
            resolution. "elbo_nats" and "kl_nats" per image, never weighted, and "mse". With a weight of the total
            correlation the terms of the KL, see `_weighed`.
        """
        # VAE.forward, not the model's own forward: that one is diffusers' and gives the reconstruction only.
        output, posterior = VAE.forward(self.model, x, noise)
        elbo = ELBO(self.model.likelihood.log_prob(x, output), posterior.kl_per_dimension())
        total_correlation: torch.Tensor | None = None
        terms: Terms = {}
        if self.objective.tc_weight is not None:
            total_correlation, terms = self._weighed(posterior, posterior.rsample(noise))
        loss = self.objective.loss(elbo, step, total_correlation) / x[0].numel()
        return {"loss": loss, **_report(self.model, x, output, elbo), **terms}

    def _weighed(self, posterior: DiagonalGaussian, z: torch.Tensor) -> tuple[torch.Tensor, Terms]:
        """The total correlation that is trained on, shape (), and the terms of the KL by their names.

        Both are estimated over the batch of all processes, so that these train like a single process with the whole
        batch; with gradient accumulation over each of its batches. The terms are estimated without the constant that
        the former is off by, see `kl_terms`.
        """
        whole = DiagonalGaussian(gather_with_gradient(posterior.mean), gather_with_gradient(posterior.logvar))
        samples = gather_with_gradient(z)
        size = self.dataset_size or len(samples)
        trained = kl_terms(whole, samples, size).total_correlation.mean()
        told: Terms = {}
        if self.dataset_size is not None:
            with torch.no_grad():
                terms = kl_terms(whole, samples, size, "stratified")
            told = {f"{name}_nats": value.mean() for name, value in vars(terms).items()}
        return scale_gradient(trained, world_size()), told


class ImportanceWeightedLoss(TrainingLoss):
    """A VAE that is trained on the importance-weighted bound (Burda et al. 2016).

    Args:
        adapter: of the VAE.
        num_samples: samples of z per image, K.
    """

    def __init__(self, adapter: Adapter, num_samples: int) -> None:
        super().__init__(adapter)
        self.num_importance_samples = num_samples

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor, step: int, backgrounds: torch.Tensor | None = None
    ) -> Terms:
        """One training pass, see `TrainingLoss.forward`; the encoder runs once, and the samples are decoded together.

        Returns:
            "loss": the negative bound in nats per image and dimension of the image. "importance_weighted_nats", the
            bound per image; "elbo_nats", "kl_nats" and "mse", of the same samples.
        """
        posterior = self.model.posterior(x)
        samples = decode_samples(self.model, x, posterior, noise.transpose(0, 1))
        bound = samples.bound.mean()
        elbo = ELBO(samples.log_likelihood.mean(0), posterior.kl_per_dimension())
        repeated = x.repeat(self.num_importance_samples, 1, 1, 1)
        return {
            "loss": -bound / x[0].numel(),
            "importance_weighted_nats": bound.detach(),
            **_report(self.model, repeated, samples.output, elbo),
        }

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """That of K samples of each image: (B, K, ...)."""
        first, *rest = super().noise_shape(batch_size, height, width)
        return first, self.num_importance_samples, *rest


class CodebookLoss(TrainingLoss):
    """A VQ-VAE together with its loss (van den Oord et al. 2017, eq. 3)."""

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor, step: int, backgrounds: torch.Tensor | None = None
    ) -> Terms:
        """One training pass, in which the codebook follows the batch; `noise` and `step` are not used.

        Returns:
            As `ELBOLoss`, and the quantiser's losses by name, weighted; "codebook_perplexity" of the codes of this
            batch, over all processes.
        """
        output, posterior, losses = VQVAE.forward(self.model, x)
        elbo = ELBO(self.model.likelihood.log_prob(x, output), posterior.kl_per_dimension())
        loss = vq_loss(elbo.log_likelihood, losses, x[0].numel())
        counts = torch.bincount(posterior.indices.flatten(), minlength=self.model.quantizer.codebook_size)
        return {
            "loss": loss,
            **_report(self.model, x, output, elbo),
            **{name: value.detach() for name, value in losses.items()},
            "codebook_perplexity": perplexity(sum_over_processes(counts)).float(),
        }


@torch.no_grad()
def _report(model: VAE | VQVAE, x: torch.Tensor, output: torch.Tensor, elbo: ELBO) -> Terms:
    return {
        "elbo_nats": elbo.value.detach().mean(),
        "kl_nats": elbo.kl.detach().mean(),
        "mse": (model.likelihood.mean(output).float() - x.float()).square().mean(),
    }
