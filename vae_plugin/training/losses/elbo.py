"""The evidence lower bound as a loss, of a VAE and of a VQ-VAE."""

from __future__ import annotations

import torch

from ...autoencoders import Adapter
from ...models.distributed import sum_over_processes
from ...models.quantizers.entropy import perplexity
from ...models.vae import VAE
from ...models.vqvae import VQVAE
from ...objectives import ELBO, TrainingObjective, vq_loss
from .base import Terms, TrainingLoss


class ELBOLoss(TrainingLoss):
    """A VAE together with its training objective.

    Args:
        adapter: of the VAE.
        objective: the weights of the loss.
    """

    def __init__(self, adapter: Adapter, objective: TrainingObjective) -> None:
        super().__init__(adapter)
        self.objective = objective

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor, step: int, backgrounds: torch.Tensor | None = None
    ) -> Terms:
        """One training pass, see `TrainingLoss.forward`.

        Returns:
            "loss": nats per image and dimension of the image, so that the size of gradients does not depend on the
            resolution. "elbo_nats" and "kl_nats" per image, never weighted, and "mse".
        """
        # VAE.forward, not the model's own forward: that one is diffusers' and gives the reconstruction only.
        output, posterior = VAE.forward(self.model, x, noise)
        elbo = ELBO(self.model.likelihood.log_prob(x, output), posterior.kl_per_dimension())
        loss = self.objective.loss(elbo, step) / x[0].numel()
        return {"loss": loss, **_report(self.model, x, output, elbo)}


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
