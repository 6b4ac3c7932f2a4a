"""A small autoencoder that learns the latents of a large one."""

from __future__ import annotations

import torch

from ...autoencoders import Adapter
from ...metrics import psnr
from ...models.posteriors import DiagonalGaussian
from .base import Terms, TrainingLoss
from .image import ImageLoss
from .reconstruction import last_weight


class DistillationLoss(TrainingLoss):
    """A student and what it learns from its teacher, as TAESD learnt the latents of Stable Diffusion.

    The student decodes what a pipeline hands it: the teacher's latents, shifted and scaled as its config says, so that
    the student's own `scaling_factor` is 1.

    Args:
        student: of the model that is trained.
        teacher: of an autoencoder with latents of the same shape; it is not trained.
        image_loss: between the images that both decode.
        latent_scale: weight of the mean squared distance of the latents that both encode.
    """

    def __init__(self, student: Adapter, teacher: Adapter, image_loss: ImageLoss, *, latent_scale: float = 1.0) -> None:
        super().__init__(student)
        self.image_loss = image_loss
        self.has_alpha = image_loss.alpha_scale is not None
        self.latent_scale = latent_scale
        teacher.model.requires_grad_(False).eval()
        self.teacher = teacher

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """The shape of the teacher's latents."""
        return self.teacher.latent_shape(batch_size, height, width)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """What the student decodes from the teacher's latents of x."""
        z = self.teacher.posterior(x).mode()
        return self.adapter.decode(self.teacher.pipeline_latents(z), x.shape[-2:])

    def compare(self, x: torch.Tensor, reconstruction: torch.Tensor) -> Terms:
        """PSNR to what the teacher decodes (dB), squared error of the student's latents, perceptual distance."""
        z = self.teacher.posterior(x).mode()
        error = self.adapter.posterior(x).mode() - self.teacher.pipeline_latents(z)
        return {
            "psnr_to_teacher": psnr(reconstruction, self.teacher.decode(z, x.shape[-2:])),
            "latent_mse": error.float().square().flatten(1).mean(1),
            **self.image_loss.compare(x, reconstruction),
        }

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what `compare` gives."""
        return ("psnr_to_teacher", "latent_mse", *self.image_loss.measures)

    @property
    def perceptual_measures(self) -> tuple[str, ...]:
        """Those of them that are perceptual distances."""
        return self.image_loss.perceptual_measures

    def place_frozen(self, device: torch.device) -> None:
        """Move the teacher and the perceptual networks."""
        self.teacher.model.to(device)
        self.image_loss.place_frozen(device)

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor, step: int, backgrounds: torch.Tensor | None = None
    ) -> Terms:
        """One training pass; arguments and result as of `ReconstructionLoss`, and "latent_mse"."""
        teacher, student = self.teacher, self.adapter
        with torch.no_grad():
            q = teacher.posterior(x)
            z = q.rsample(noise).to(x.dtype) if isinstance(q, DiagonalGaussian) else q.sample()
            target = teacher.decode(z, x.shape[-2:])
        reconstruction = student.decode_unclamped(teacher.pipeline_latents(z), x.shape[-2:])
        loss, terms = self.image_loss(reconstruction, target, last_weight(student), step, backgrounds)
        latents = student.posterior(x).mode()
        latent_mse = (latents.float() - teacher.pipeline_latents(q.mode()).float()).square().mean()
        if latent_mse.requires_grad:
            loss = loss + self.latent_scale * latent_mse
        reconstruction = reconstruction.detach()
        mse = (reconstruction.float() - target.float()).square().mean()
        return {
            "loss": loss,
            "reconstruction": reconstruction,
            **terms,
            "latent_mse": latent_mse.detach(),
            "mse": mse,
        }
