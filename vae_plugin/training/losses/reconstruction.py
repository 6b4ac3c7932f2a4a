"""The loss of any autoencoder between images and their reconstructions."""

from __future__ import annotations

import torch

from ...autoencoders import Adapter
from .base import Terms, TrainingLoss
from .image import ImageLoss


class ReconstructionLoss(TrainingLoss):
    """An autoencoder together with the loss between images and their reconstructions.

    Args:
        adapter: of the autoencoder.
        image_loss: between images.
        kl_scale: weight of KL(q(z|x) || N(0, I)) in nats per image beside the image loss summed over the image's
            dimensions (Rombach et al. 2022 take 1e-6).
        anchor_scale: weight of the mean squared distance of the latents from those of the model at the start.
    """

    def __init__(
        self, adapter: Adapter, image_loss: ImageLoss, *, kl_scale: float = 0.0, anchor_scale: float = 0.0
    ) -> None:
        super().__init__(adapter)
        self.image_loss = image_loss
        self.has_alpha = image_loss.alpha_scale is not None
        self.kl_scale = kl_scale
        self.anchor_scale = anchor_scale
        self.original = adapter.frozen_encoder() if anchor_scale else None

    def compare(self, x: torch.Tensor, reconstruction: torch.Tensor) -> Terms:
        """The perceptual distances, if the loss has any."""
        return self.image_loss.compare(x, reconstruction)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what `compare` gives."""
        return self.image_loss.measures

    @property
    def perceptual_measures(self) -> tuple[str, ...]:
        """Those of them that are perceptual distances."""
        return self.image_loss.perceptual_measures

    def place_frozen(self, device: torch.device) -> None:
        """Move the original of an anchor and the perceptual networks."""
        if self.original is not None:
            self.original.model.to(device)
        self.image_loss.place_frozen(device)

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor, step: int, backgrounds: torch.Tensor | None = None
    ) -> Terms:
        """One training pass, see `TrainingLoss.forward`.

        Returns:
            "loss" with gradient; "reconstruction" and, as means over the batch, the terms of `ImageLoss`, "mse",
            "kl_nats" per image of a Gaussian posterior, "anchor", and the losses of a codebook.
        """
        done = self.adapter.training_pass(x, noise)
        loss, terms = self.image_loss(done.reconstruction, x, last_weight(self.adapter), step, backgrounds)
        if done.kl is not None:
            terms["kl_nats"] = done.kl.detach().mean()
            if done.kl.requires_grad:
                loss = loss + self.kl_scale * done.kl.mean() / x[0].numel()
        for name, value in done.codebook_losses.items():
            terms[name] = value.detach()
            if value.requires_grad:
                loss = loss + value
        if self.original is not None:
            with torch.no_grad():
                before = self.original.latents(x)
            latents = self.adapter.latents(x) if done.latents is None else done.latents
            anchor = (latents.float() - before.float()).square().mean()
            terms["anchor"] = anchor.detach()
            loss = loss + self.anchor_scale * anchor
        reconstruction = done.reconstruction.detach()
        mse = (reconstruction.float() - x.float()).square().mean()
        return {"loss": loss, "reconstruction": reconstruction, **terms, "mse": mse}


def last_weight(adapter: Adapter) -> torch.Tensor | None:
    """Weight of the decoder's last layer; None if it is not trained."""
    weight = adapter.last_layer.weight
    return weight if weight.requires_grad else None
