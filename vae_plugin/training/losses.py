"""The loss of training as one module, so that one call of its `forward` is one pass through the wrapped model."""

from __future__ import annotations

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..autoencoders.interface import latent_shape, reconstruct
from ..models.quantizers.entropy import perplexity
from ..models.vae import VAE
from ..models.vqvae import VQVAE
from ..objectives import ELBO, TrainingObjective, vq_loss


class TrainingLoss(nn.Module):
    """A model together with its loss, and what the run asks of the two."""

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """Of the noise that `forward` wants: that of the latents."""
        return latent_shape(self.model, batch_size, height, width)

    def reconstruct(self, model: ModelMixin, x: torch.Tensor) -> torch.Tensor:
        """What evaluation compares with the images x."""
        return reconstruct(model, x)

    def compare(self, model: ModelMixin, x: torch.Tensor, reconstruction: torch.Tensor) -> dict[str, torch.Tensor]:
        """What evaluation measures beside PSNR and SSIM, (B,) each."""
        return {}

    def place_judges(self, device: torch.device) -> None:
        """Move what is neither trained nor saved with the model."""


class ELBOLoss(TrainingLoss):
    """A VAE together with its training objective.

    Distributed wrappers synchronise gradients only for what runs inside their `forward`; encoding and decoding through
    the bare model would train every process on its own. This module is what gets wrapped.

    Args:
        model: the VAE, its weights are the only parameters here.
        objective: the weights of the loss.
    """

    def __init__(self, model: VAE, objective: TrainingObjective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, x: torch.Tensor, noise: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """One training pass.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            noise: standard normal of the latents' shape.
            step: optimiser step, from 0, for the schedules.

        Returns:
            "loss": nats per image and dimension of the image (so that the size of gradients does not depend on the
            resolution), with gradient. Without gradient, means over the batch: "elbo_nats" and "kl_nats" per image,
            never weighted, and "mse", the mean squared error in the [-1, 1] range.
        """
        # VAE.forward, not the adapter's own forward: that one is diffusers' and gives the reconstruction only.
        output, posterior = VAE.forward(self.model, x, noise)
        likelihood = self.model.likelihood
        elbo = ELBO(likelihood.log_prob(x, output), posterior.kl_per_dimension())
        loss = self.objective.loss(elbo, step) / x[0].numel()
        return {"loss": loss, **_report(self.model, x, output, elbo)}


class VQLoss(TrainingLoss):
    """A VQ-VAE together with its loss, for the same reason.

    Args:
        model: the VQ-VAE, its weights are the only parameters here.
    """

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None, step: int) -> dict[str, torch.Tensor]:
        """One training pass, in which the codebook follows the batch.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            noise: not used, there is nothing to sample.
            step: not used, there is no schedule.

        Returns:
            As `ELBOLoss`, and the quantiser's losses by their names, weighted; "codebook_perplexity" of the codes of
            this batch.
        """
        output, posterior, losses = VQVAE.forward(self.model, x)
        elbo = ELBO(self.model.likelihood.log_prob(x, output), posterior.kl_per_dimension())
        loss = vq_loss(elbo.log_likelihood, losses, x[0].numel())
        counts = torch.bincount(posterior.indices.flatten(), minlength=self.model.quantizer.codebook_size)
        return {
            "loss": loss,
            **_report(self.model, x, output, elbo),
            **{name: value.detach() for name, value in losses.items()},
            "codebook_perplexity": perplexity(counts).float(),
        }


@torch.no_grad()
def _report(model: VAE | VQVAE, x: torch.Tensor, output: torch.Tensor, elbo: ELBO) -> dict[str, torch.Tensor]:
    return {
        "elbo_nats": elbo.value.detach().mean(),
        "kl_nats": elbo.kl.detach().mean(),
        "mse": (model.likelihood.mean(output).float() - x.float()).square().mean(),
    }
