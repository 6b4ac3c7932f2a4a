"""The losses of the model and its discriminator."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UserError
from ...options import GIVEN, Except, option, weights_of
from ..losses.discriminator import LOSSES as DISCRIMINATOR_LOSSES
from ..losses.discriminator import REGULARIZATIONS
from ..losses.pixels import PIXEL_LOSSES

ELBO = "elbo"
PIXELS = {"loss": tuple(PIXEL_LOSSES)}
DISCRIMINATOR = {"disc_start": GIVEN}
NEW_DISCRIMINATOR = {**DISCRIMINATOR, "discriminator": (None,)}
TRAINS_ENCODER = {"train": Except("decoder")}
COMPARES_IMAGES = {**PIXELS, "trains_on_images": (True,)}


@dataclass
class LossSettings:
    """Settings of the losses of a run."""

    reconstruction_loss: tuple[str, ...] | None = option(
        None,
        "Loss between images and their reconstructions: elbo (the default for AutoencoderVAE and AutoencoderVQVAE "
        "without --teacher), or one or several of l1 (the default otherwise), l2, charbonnier, ssim and ms-ssim, each "
        "a mean over pixels with its weight, as in l1=0.3 l2=0.5 ssim=0.5; a name alone has the weight 1.",
        choices=(ELBO, *PIXEL_LOSSES),
        alone=True,
        weighted="weight",
        when={"trains_on_images": (True,)},
    )
    learned_variance: bool = option(
        False,
        "Divide the sum of pixel and perceptual losses by a learned variance, which makes l1 or l2 a log-likelihood.",
        when=COMPARES_IMAGES,
    )
    kl_scale: float = option(
        1e-6,
        "Weight of the KL, in nats, beside the pixel losses summed over the image.",
        at_least=0,
        when={**PIXELS, **TRAINS_ENCODER, "teacher": (None,), "gaussian": (True,)},
        on_resume=True,
    )
    perceptual_loss: tuple[str, ...] | None = option(
        None,
        "Perceptual losses beside those of pixels: lpips-vgg, lpips-alex, lpips-squeeze, or MODULE:FUNCTION of your "
        "own, or several with their weights, as in lpips-vgg=0.5 MODULE:FUNCTION=0.45.",
        alone=True,
        weighted="weight",
        when=COMPARES_IMAGES,
    )
    perceptual_scale: float = option(
        1.0,
        "Weight of all perceptual losses together, times that of each.",
        at_least=0,
        when={"perceptual_loss": GIVEN},
        on_resume=True,
    )
    fourth_channel: str = option(
        "alpha",
        "What the fourth channel of images of 4 channels is. As alpha, losses other than elbo see the images over "
        "random backgrounds, so that colour where nothing is seen is not trained on, and alpha has a term of its own. "
        "As a band it is one like the others.",
        choices=("alpha", "band"),
        when={**COMPARES_IMAGES, "image_channels": (4,)},
        since="0.2",
        before="band",
    )
    alpha_scale: float = option(
        1.0,
        "Weight of the pixel losses of alpha.",
        at_least=0,
        when={**COMPARES_IMAGES, "image_channels": (4,), "fourth_channel": ("alpha",)},
        on_resume=True,
        since="0.2",
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
        "First step of a patch discriminator, whose adversarial loss is added to the others. By default there is none.",
        at_least=0,
        when=COMPARES_IMAGES,
    )
    disc_warmup_steps: int = option(
        0,
        "Steps for which the discriminator trains before its adversarial loss is added.",
        at_least=0,
        when=DISCRIMINATOR,
        on_resume=True,
        since="0.2",
    )
    discriminator: str | None = option(
        None,
        "Discriminator to begin with: the folder of a result, or a .safetensors file, that a run has saved, or "
        "MODULE:FUNCTION of your own, whose torch module maps images (B, C, H, W) to logits. By default a new one.",
        path=True,
        when=DISCRIMINATOR,
        since="0.2",
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
        64, "Channels of the first layer of the discriminator.", at_most=2**16, at_least=1, when=NEW_DISCRIMINATOR
    )
    disc_layers: int = option(
        3,
        "Number of layers with stride 2 in the discriminator, after the first.",
        at_most=16,
        at_least=1,
        when=NEW_DISCRIMINATOR,
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

    def pixels(self, has_likelihood: bool, distilled: bool, new_decoder: bool = False) -> dict[str, float]:
        """The weights of the losses of pixels by their names, or of "elbo".

        Args:
            has_likelihood: whether the model has a likelihood.
            distilled: whether it learns the latents of a teacher.
            new_decoder: whether it has them, and learns to decode them.

        Raises:
            UserError: if the ELBO is asked for, and the model has no likelihood, or something beside it.
        """
        usual = ELBO if has_likelihood and not (distilled or new_decoder) else "l1"
        losses = weights_of(self.reconstruction_loss or (usual,))
        if losses.get(ELBO, 1.0) != 1 or (ELBO in losses and len(losses) > 1):
            raise UserError(
                f"--reconstruction_loss {' '.join(self.reconstruction_loss or ())}: elbo is a whole objective, which "
                "has no weight and nothing beside it; give elbo alone, or losses of pixels."
            )
        if ELBO in losses and distilled:
            raise UserError("--reconstruction_loss elbo has no meaning for a distillation: give l1 or l2.")
        if ELBO in losses and not has_likelihood:
            raise UserError(
                "--reconstruction_loss elbo needs a model with a likelihood (AutoencoderVAE or AutoencoderVQVAE): "
                "give l1 or l2."
            )
        return losses
