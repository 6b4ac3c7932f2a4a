"""The loss of latent diffusion's first stage, between an image and its reconstruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...metrics import psnr
from ...models.distributed import mean_over_processes
from .base import logged_name
from .discriminator import generator_loss
from .perceptual import PERCEPTUAL, Distance, PerceptualTerm
from .pixels import PIXEL_LOSSES
from .transparency import ALPHA, over, over_black_and_white

MAX_ADAPTIVE_WEIGHT = 1e4
COMPOSITED_PSNR = "composited_psnr"


@dataclass
class Adversary:
    """The discriminator, as the loss of the autoencoder uses it.

    Attributes:
        discriminator: its weights get no gradient from here.
        kind: of `generator_loss`.
        start_step: optimiser step from which on the adversarial loss is added.
        scale: weight of the adversarial term, relative to the reconstruction's if `adaptive`.
        adaptive: scale the term so that its gradient at the decoder's last layer is as long as the reconstruction's
            (Esser et al. 2021, eq. 7).
    """

    discriminator: nn.Module
    kind: str = "hinge"
    start_step: int = 0
    scale: float = 0.5
    adaptive: bool = True

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The discriminator's logits of images, with a gradient to the images only."""
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        return torch.func.functional_call(self.discriminator, frozen, (images,))


class ImageLoss(nn.Module):
    """Pixel errors, perceptual distances and adversarial loss (Rombach et al. 2022, eq. 25, after Esser et al. 2021).

    Everything is a mean over pixels and channels, so that no weight depends on the resolution. Perceptual networks
    and the discriminator are not submodules: they are neither trained nor saved with this module.

    Args:
        pixels: the names of `PIXEL_LOSSES` that are summed, with their weights; a name alone has the weight 1.
        learned_variance: divide the reconstruction error by a variance that is learned and pay its logarithm: the
            negative log-likelihood (in nats per pixel and channel, up to a constant) of a Laplace or Gaussian p(x|z).
        perceptual: distance of two batches of images, (x, y) -> (B,), or several with their names and weights.
        perceptual_scale: weight of all perceptual distances beside the pixel error, times their own.
        adversary: the discriminator, if there is one.
        alpha_scale: weight of the pixel errors of alpha, of images whose fourth channel is alpha: everything else sees
            them over a background. None of others.
    """

    def __init__(
        self,
        pixels: str | Mapping[str, float] = "l1",
        *,
        learned_variance: bool = False,
        perceptual: Distance | Sequence[PerceptualTerm] | None = None,
        perceptual_scale: float = 1.0,
        adversary: Adversary | None = None,
        alpha_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.pixels = {pixels: 1.0} if isinstance(pixels, str) else dict(pixels)
        self.log_variance = nn.Parameter(torch.zeros(())) if learned_variance else None
        self.perceptual_scale = perceptual_scale
        self.adversary = adversary
        self.alpha_scale = alpha_scale
        # In a tuple, where torch does not look for submodules.
        self._perceptual = (
            (PerceptualTerm(PERCEPTUAL, perceptual),) if callable(perceptual) else tuple(perceptual or ())
        )

    def forward(
        self,
        reconstruction: torch.Tensor,
        target: torch.Tensor,
        last_layer: torch.Tensor | None,
        step: int,
        backgrounds: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch.

        Args:
            reconstruction: (B, C, H, W), with the graph of the autoencoder.
            target: same shape, in [-1, 1].
            last_layer: weight of the decoder's last layer, where the adaptive weight compares gradients; None if it is
                not trained: then they are compared at the reconstruction.
            step: optimiser step, from 0.
            backgrounds: colours that both are seen over, (B, 3) in [-1, 1], if their fourth channel is alpha.

        Returns:
            The loss with gradient, and its terms without, unweighted: pixel errors and perceptual distances by their
            names, a single distance as "perceptual" too, "alpha", "adversarial"; "adversarial_weight", "variance".
        """
        adversary = self.adversary
        if adversary is None or step < adversary.start_step:
            error, terms = self._error(reconstruction.float(), target.float(), backgrounds)
            return self._nll(error), terms
        # The losses are differentiated once, up to the reconstruction; the autoencoder once, with their sum. The usual
        # way goes back through the perceptual network and the discriminator twice more.
        images = reconstruction.detach().float().requires_grad_()
        error, terms = self._error(images, target.float(), backgrounds)
        (towards_target,) = torch.autograd.grad(error, images)
        nll = self._nll(error.detach())
        if self.log_variance is not None:
            towards_target = towards_target * torch.exp(-self.log_variance.detach())
        with torch.autocast(images.device.type, enabled=_autocast_is_bfloat16(images.device.type)):
            seen = images if backgrounds is None else over(images, backgrounds)
            adversarial = generator_loss(adversary.logits(seen), adversary.kind)
        (towards_real,) = torch.autograd.grad(adversarial, images)
        weight = images.new_tensor(adversary.scale)
        if adversary.adaptive:
            weight = weight * self._adaptive_weight(reconstruction, towards_target, towards_real, last_layer)
        loss = nll + _carrying(reconstruction, towards_target + weight * towards_real) + weight * adversarial.detach()
        return loss, {**terms, "adversarial": adversarial.detach(), "adversarial_weight": weight}

    @torch.no_grad()
    def compare(self, x: torch.Tensor, reconstruction: torch.Tensor) -> dict[str, torch.Tensor]:
        """The perceptual distances of each pair, (B,), by their names; a single one is "perceptual" too.

        Of images with alpha "composited_psnr" (dB), both of it and of the distances the mean over black and over white.
        """
        if self.alpha_scale is None:
            return self._distances(reconstruction, x)
        pairs = zip(over_black_and_white(reconstruction.float()), over_black_and_white(x.float()), strict=True)
        black, white = ({COMPOSITED_PSNR: psnr(*pair), **self._distances(*pair)} for pair in pairs)
        return {name: (value + white[name]) / 2 for name, value in black.items()}

    def _distances(self, images: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        return _with_single({term.name: term.distance(images, target).flatten() for term in self._perceptual})

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what `compare` gives."""
        return (*(() if self.alpha_scale is None else (COMPOSITED_PSNR,)), *self.perceptual_measures)

    @property
    def perceptual_measures(self) -> tuple[str, ...]:
        """Those of them that are perceptual distances."""
        return tuple(_with_single({term.name: torch.empty(0) for term in self._perceptual}))

    def place_frozen(self, device: torch.device) -> None:
        """Move the perceptual networks; the discriminator is placed where it is trained."""
        for term in self._perceptual:
            if isinstance(term.distance, nn.Module):
                term.distance.to(device)

    def _error(
        self, images: torch.Tensor, target: torch.Tensor, backgrounds: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weighted sum of pixel errors and perceptual distances, and these without weight or gradient."""
        alphas = None
        if backgrounds is not None:
            alphas = images[:, ALPHA : ALPHA + 1], target[:, ALPHA : ALPHA + 1]
            images, target = over(images, backgrounds), over(target, backgrounds)
        found = {name: PIXEL_LOSSES[name](images, target) for name in self.pixels}
        error = _weighted(found, self.pixels)
        if alphas is not None and self.alpha_scale is not None:
            found["alpha"] = _weighted({name: PIXEL_LOSSES[name](*alphas) for name in self.pixels}, self.pixels)
            error = error + self.alpha_scale * found["alpha"]
        distances = {}
        for term in self._perceptual:
            distances[term.name] = term.distance(images, target).mean()
            error = error + self.perceptual_scale * term.weight * distances[term.name]
        terms = {logged_name(name): value.detach() for name, value in {**found, **_with_single(distances)}.items()}
        if self.log_variance is not None:
            terms["variance"] = self.log_variance.detach().exp()
        return error, terms

    def _nll(self, error: torch.Tensor) -> torch.Tensor:
        return error if self.log_variance is None else error * torch.exp(-self.log_variance) + self.log_variance

    def _adaptive_weight(
        self,
        reconstruction: torch.Tensor,
        towards_target: torch.Tensor,
        towards_real: torch.Tensor,
        last_layer: torch.Tensor | None,
    ) -> torch.Tensor:
        """Ratio of the gradients' lengths over the batch of all processes, the same on each of them."""
        lengths = []
        for gradient in (towards_target, towards_real):
            # Scaled to a largest value of 1, so that a half-precision layer neither overflows nor flushes it to zero.
            size = gradient.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
            if last_layer is not None:
                (gradient,) = torch.autograd.grad(
                    reconstruction, last_layer, (gradient / size).to(reconstruction.dtype), retain_graph=True
                )
                gradient = mean_over_processes(gradient.float() * size)
                lengths.append(gradient.norm())
            else:
                lengths.append(mean_over_processes(gradient.square().sum()).sqrt())
        return (lengths[0] / (lengths[1] + 1e-4)).clamp(0, MAX_ADAPTIVE_WEIGHT)


def _carrying(tensor: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Zero, with `gradient` as its derivative with respect to `tensor`."""
    carrier = (tensor.float() * gradient.detach()).sum()
    return carrier - carrier.detach()


def _autocast_is_bfloat16(device: str) -> bool:
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16


def _weighted(terms: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """The sum of the terms, each times its weight; one of weight 1 to the bit."""
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


def _with_single(distances: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The perceptual distances, a single one under the name of all of them too."""
    return distances if len(distances) != 1 else {**distances, PERCEPTUAL: next(iter(distances.values()))}
