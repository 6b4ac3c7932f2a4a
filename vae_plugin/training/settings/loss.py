"""The losses of the model and its discriminator."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UserError
from ...options import GIVEN, Except, option
from ..losses.discriminator import LOSSES as DISCRIMINATOR_LOSSES
from ..losses.discriminator import REGULARIZATIONS
from ..losses.image import PIXEL_LOSSES

PIXELS = {"loss": PIXEL_LOSSES}
DISCRIMINATOR = {"disc_start": GIVEN}
TRAINS_ENCODER = {"train": Except("decoder")}
COMPARES_IMAGES = {**PIXELS, "trains_on_images": (True,)}


@dataclass
class LossSettings:
    """Settings of the losses of a run."""

    reconstruction_loss: str | None = option(
        None,
        "Loss between images and their reconstructions: elbo (the default for AutoencoderVAE and AutoencoderVQVAE "
        "without --teacher), or the mean error of pixels, l1 (the default otherwise) or l2.",
        choices=("elbo", *PIXEL_LOSSES),
        when={"trains_on_images": (True,)},
    )
    learned_variance: bool = option(
        False, "Divide l1 or l2 by a learned variance, which makes it a log-likelihood.", when=COMPARES_IMAGES
    )
    kl_scale: float = option(
        1e-6,
        "Weight of the KL, in nats, beside l1 or l2 summed over the image.",
        at_least=0,
        when={**PIXELS, **TRAINS_ENCODER, "teacher": (None,), "gaussian": (True,)},
        on_resume=True,
    )
    perceptual_loss: str | None = option(
        None,
        "Perceptual loss beside l1 or l2: lpips-vgg, lpips-alex, lpips-squeeze, or MODULE:FUNCTION of your own.",
        when=COMPARES_IMAGES,
    )
    perceptual_scale: float = option(
        1.0, "Weight of the perceptual loss.", at_least=0, when={"perceptual_loss": GIVEN}, on_resume=True
    )
    latent_anchor: float = option(
        0.0,
        "Weight of the mean squared distance between the latents and those of the original model.",
        at_least=0,
        when={"pretrained_model_name_or_path": GIVEN, "teacher": (None,), **TRAINS_ENCODER, **PIXELS},
        on_resume=True,
    )
    latent_scale: float = option(
        1.0,
        "Weight of the mean squared error of the latents in a distillation.",
        at_least=0,
        when={"teacher": GIVEN, **TRAINS_ENCODER},
        on_resume=True,
    )
    disc_start: int | None = option(
        None,
        "First step of a patch discriminator, whose adversarial loss is added to l1 or l2. By default there is none.",
        at_least=0,
        when=COMPARES_IMAGES,
    )
    disc_loss: str = option("hinge", "Loss of the discriminator.", choices=DISCRIMINATOR_LOSSES, when=DISCRIMINATOR)
    disc_scale: float = option(0.5, "Weight of the adversarial loss.", at_least=0, when=DISCRIMINATOR, on_resume=True)
    disc_adaptive_weight: bool = option(
        True,
        "Multiply the weight of the adversarial loss by the ratio of the gradients' lengths at the decoder's last "
        "layer, as VQGAN does.",
        when=DISCRIMINATOR,
    )
    disc_channels: int = option(
        64, "Channels of the first layer of the discriminator.", at_most=2**16, at_least=1, when=DISCRIMINATOR
    )
    disc_layers: int = option(
        3,
        "Number of layers with stride 2 in the discriminator, after the first.",
        at_most=16,
        at_least=1,
        when=DISCRIMINATOR,
    )
    disc_learning_rate: float | None = option(
        None,
        "Learning rate of the discriminator. By default --learning_rate.",
        at_least=0,
        when=DISCRIMINATOR,
        on_resume=True,
    )
    disc_regularization: str = option(
        "none", "Regularisation of the discriminator.", choices=REGULARIZATIONS, when=DISCRIMINATOR
    )
    disc_regularization_scale: float = option(
        1e-3,
        "Weight of the regularisation of the discriminator.",
        at_least=0,
        when={**DISCRIMINATOR, "disc_regularization": ("r1", "lecam")},
        on_resume=True,
    )

    def name(self, has_likelihood: bool, distilled: bool, new_decoder: bool = False) -> str:
        """The name of the loss: "elbo", "l1" or "l2".

        Args:
            has_likelihood: whether the model has a likelihood.
            distilled: whether it learns the latents of a teacher.
            new_decoder: whether it has them, and learns to decode them.

        Raises:
            UserError: if the ELBO is asked for, and the model has no likelihood.
        """
        usual = "elbo" if has_likelihood and not (distilled or new_decoder) else "l1"
        loss = self.reconstruction_loss or usual
        if loss == "elbo" and distilled:
            raise UserError("--reconstruction_loss elbo has no meaning for a distillation: give l1 or l2.")
        if loss == "elbo" and not has_likelihood:
            raise UserError(
                "--reconstruction_loss elbo needs a model with a likelihood (AutoencoderVAE or AutoencoderVQVAE): "
                "give l1 or l2."
            )
        return loss
