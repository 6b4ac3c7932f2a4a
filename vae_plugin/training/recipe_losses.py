"""The losses of any autoencoder, each with its model as one module (see `losses`)."""

from __future__ import annotations

import copy
import math

import torch
from diffusers import AsymmetricAutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..autoencoders import AutoencoderVQVAE
from ..autoencoders.interface import OURS, decode, latent_shape, pipeline_latents, posterior
from ..metrics import psnr
from ..models.posteriors import DiagonalGaussian
from ..models.vae import VAE
from ..models.vqvae import VQVAE
from .image_loss import ImageLoss
from .losses import TrainingLoss


class ReconstructionLoss(TrainingLoss):
    """An autoencoder together with the loss between images and their reconstructions.

    Args:
        model: the autoencoder.
        image_loss: between images.
        kl_scale: weight of KL(q(z|x) || N(0, I)) in nats per image beside the image loss summed over the image's
            dimensions (Rombach et al. 2022 take 1e-6).
        anchor_scale: weight of the mean squared distance of the latents from those the model gave in the beginning.
    """

    def __init__(
        self, model: ModelMixin, image_loss: ImageLoss, *, kl_scale: float = 0.0, anchor_scale: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model
        self.image_loss = image_loss
        self.kl_scale = kl_scale
        self.anchor_scale = anchor_scale
        self._original = (_encoder_of(model) if anchor_scale else None,)  # in a tuple it is no part of this module

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """Of the noise that `forward` wants: that of the latents; with a channel more for the masks of a
        mask-conditioned decoder.
        """
        _, channels, *places = latent_shape(self.model, batch_size, height, width)
        return (batch_size, channels + isinstance(self.model, AsymmetricAutoencoderKL), *places)

    def compare(self, model: ModelMixin, x: torch.Tensor, reconstruction: torch.Tensor) -> dict[str, torch.Tensor]:
        """The perceptual distance, if there is one."""
        return self.image_loss.compare(x, reconstruction)

    def place_judges(self, device: torch.device) -> None:
        """Move the original of an anchor and the networks of the image loss."""
        if self._original[0] is not None:
            self._original[0].to(device)
        self.image_loss.place_judges(device)

    def forward(self, x: torch.Tensor, noise: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """One training pass.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            noise: standard normal, of `noise_shape`.
            step: optimiser step, from 0.

        Returns:
            "loss" with gradient; "reconstruction" (B, C, H, W) and, as means over the batch, the terms of `ImageLoss`,
            "mse", "kl_nats" per image of a Gaussian posterior, "anchor", and the losses of a codebook, without.
        """
        reconstruction, latents, kl, codebook_losses = self._pass(x, noise)
        loss, terms = self.image_loss(reconstruction, x, last_layer(self.model), step)
        if kl is not None:
            terms["kl_nats"] = kl.detach().mean()
            if kl.requires_grad:
                loss = loss + self.kl_scale * kl.mean() / x[0].numel()
        for name, value in codebook_losses.items():
            terms[name] = value.detach()
            if value.requires_grad:
                loss = loss + value
        (original,) = self._original
        if original is not None:
            with torch.no_grad():
                before = _point(original, x, None)
            anchor = (_point(self.model, x, latents).float() - before.float()).square().mean()
            terms["anchor"] = anchor.detach()
            loss = loss + self.anchor_scale * anchor
        mse = (reconstruction.detach().float() - x.float()).square().mean()
        return {"loss": loss, "reconstruction": reconstruction.detach(), **terms, "mse": mse}

    def _pass(
        self, x: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, dict[str, torch.Tensor]]:
        """Reconstruction, means of the latents, KL per image, losses of the codebook."""
        model = self.model
        if isinstance(model, AutoencoderVQVAE):
            output, _, losses = VQVAE.forward(model, x)
            return model.likelihood.mean(output), None, None, losses
        if isinstance(model, OURS):
            output, q = VAE.forward(model, x, noise)
            return model.likelihood.mean(output), q.mean, q.kl(), {}
        q = posterior(model, x)
        if not isinstance(q, DiagonalGaussian):
            return decode(model, q.latents, x.shape[-2:]), q.latents, None, {}
        z = q.rsample(noise[:, : q.mean.shape[1]]).to(x.dtype)
        conditions = {}
        if isinstance(model, AsymmetricAutoencoderKL):
            conditions = {"image": x, "mask": rectangles(noise[:, -1], x.shape[-2:]).to(x.dtype)}
        return decode(model, z, x.shape[-2:], **conditions), q.mean, q.kl(), {}


class DistillationLoss(TrainingLoss):
    """A small autoencoder that learns the latents of a large one: as TAESD learnt those of Stable Diffusion.

    The student decodes what a pipeline gives it: the teacher's latents, shifted and scaled as its config says, so that
    the student's own `scaling_factor` is 1.

    Args:
        student: what is trained.
        teacher: an autoencoder with latents of the same shape; not trained.
        image_loss: between the images that both decode.
        latent_scale: weight of the mean squared distance of the latents that both encode.
    """

    def __init__(
        self, student: ModelMixin, teacher: ModelMixin, image_loss: ImageLoss, *, latent_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.model = student
        self.image_loss = image_loss
        self.latent_scale = latent_scale
        self._teacher = (teacher.requires_grad_(False).eval(),)

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """Of the noise that `forward` wants."""
        return latent_shape(self._teacher[0], batch_size, height, width)

    def reconstruct(self, model: ModelMixin, x: torch.Tensor) -> torch.Tensor:
        """What the student decodes of the teacher's latents of x."""
        (teacher,) = self._teacher
        return decode(model, pipeline_latents(teacher, posterior(teacher, x).mode()), x.shape[-2:])

    def compare(self, model: ModelMixin, x: torch.Tensor, reconstruction: torch.Tensor) -> dict[str, torch.Tensor]:
        """PSNR to the teacher's decoding (dB), the squared error of the student's latents, perceptual distance."""
        (teacher,) = self._teacher
        z = posterior(teacher, x).mode()
        error = posterior(model, x).mode() - pipeline_latents(teacher, z)
        return {
            "psnr_to_teacher": psnr(reconstruction, decode(teacher, z, x.shape[-2:])),
            "latent_mse": error.float().square().flatten(1).mean(1),
            **self.image_loss.compare(x, reconstruction),
        }

    def place_judges(self, device: torch.device) -> None:
        """Move the teacher and the networks of the image loss."""
        self._teacher[0].to(device)
        self.image_loss.place_judges(device)

    def forward(self, x: torch.Tensor, noise: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """One training pass; arguments and result as of `ReconstructionLoss`, and "latent_mse"."""
        (teacher,) = self._teacher
        with torch.no_grad():
            q = posterior(teacher, x)
            z = q.rsample(noise).to(x.dtype) if isinstance(q, DiagonalGaussian) else q.sample()
            target = decode(teacher, z, x.shape[-2:])
        reconstruction = decode(self.model, pipeline_latents(teacher, z), x.shape[-2:])
        loss, terms = self.image_loss(reconstruction, target, last_layer(self.model), step)
        latents = posterior(self.model, x).mode()
        latent_mse = (latents.float() - pipeline_latents(teacher, q.mode()).float()).square().mean()
        if latent_mse.requires_grad:
            loss = loss + self.latent_scale * latent_mse
        mse = (reconstruction.detach().float() - target.float()).square().mean()
        return {
            "loss": loss,
            "reconstruction": reconstruction.detach(),
            **terms,
            "latent_mse": latent_mse.detach(),
            "mse": mse,
        }


def last_convolution(model: ModelMixin) -> nn.Module:
    """The decoder's last layer; of one that is fully connected its last linear layer."""
    return [m for m in model.decoder.modules() if isinstance(m, (nn.Conv2d, nn.Linear))][-1]


def last_layer(model: ModelMixin) -> torch.Tensor | None:
    """Weight of the decoder's last layer, None if it is not trained."""
    weight = last_convolution(model).weight
    return weight if weight.requires_grad else None


def rectangles(noise: torch.Tensor, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    """Masks (B, 1, H, W), each 1 in a random rectangle (the part to be painted) and 0 around it.

    Args:
        noise: standard normal (B, h, w), of which four numbers for each image are used (all, if there are fewer).
        size: height and width.
    """
    uniform = 0.5 * (1 + torch.erf(noise.flatten(1) / math.sqrt(2)))
    uniform = uniform.repeat(1, math.ceil(4 / uniform.shape[1]))[:, :4]
    low, high = uniform.view(-1, 2, 2).sort(dim=2).values.unbind(2)  # each (B, 2): y, x
    inside = []
    for axis, length in enumerate(size):
        places = (torch.arange(length, device=noise.device) + 0.5) / length
        inside.append((places >= low[:, axis, None]) & (places <= high[:, axis, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :]).float()[:, None]


def _encoder_of(model: ModelMixin) -> ModelMixin:
    """A frozen copy of what gives the latents."""
    decoder, model.decoder = model.decoder, None
    try:
        copied = copy.deepcopy(model)
    finally:
        model.decoder = decoder
    return copied.requires_grad_(False).eval()


def _point(model: ModelMixin, x: torch.Tensor, latents: torch.Tensor | None) -> torch.Tensor:
    """The latents as a point: posterior means, or what is quantised."""
    if latents is not None:
        return latents
    return model.encoder_output(x) if isinstance(model, AutoencoderVQVAE) else posterior(model, x).mean
