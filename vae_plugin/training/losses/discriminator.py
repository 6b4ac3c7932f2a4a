"""The patch discriminator and its loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ...models.distributed import mean_over_processes
from .transparency import over

LOSSES = ("hinge", "vanilla")
REGULARIZATIONS = ("none", "r1", "lecam")


class PatchDiscriminator(nn.Module):
    """Classifies every patch of an image as real or reconstructed (Isola et al. 2017, section 3.2.2).

    Group norm has no statistics that would differ between processes, and works with a batch of one.

    Args:
        in_channels: of the images.
        channels: of the first layer; doubled by each of the next, up to 8 times.
        layers: layers of stride 2 after the first; with three, a logit sees 70 pixels.
    """

    def __init__(self, in_channels: int, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = channels
        for layer in range(1, layers + 1):
            wider = channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            groups = next(g for g in (32, 16, 8, 4, 2, 1) if wider % g == 0 and wider // g > 1)
            blocks += [
                nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(groups, wider),
                nn.LeakyReLU(0.2),
            ]
            width = wider
        self.layers = nn.Sequential(*blocks, nn.Conv2d(width, 1, 4, padding=1))
        self.sizes = {"in_channels": in_channels, "channels": channels, "layers": layers}
        self.smallest_image = 2**layers * 4
        for module in self.modules():  # as in the paper
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, 1, h, w) of images (B, C, H, W) in [-1, 1], positive for real ones."""
        return self.layers(x)


def generator_loss(logits: torch.Tensor, kind: str) -> torch.Tensor:
    """The adversarial loss of the autoencoder, a mean over patches, shape ().

    Args:
        logits: of reconstructions.
        kind: "hinge": -logit (Lim & Ye 2017); "vanilla": the non-saturating loss of Goodfellow et al. 2014.
    """
    logits = logits.float()
    return -logits.mean() if kind == "hinge" else F.softplus(-logits).mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor, kind: str) -> torch.Tensor:
    """The loss of the discriminator, a mean over patches, shape ().

    Args:
        real: logits of images.
        fake: logits of reconstructions.
        kind: "hinge" or "vanilla".
    """
    real, fake = real.float(), fake.float()
    if kind == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


class DiscriminatorLoss(nn.Module):
    """A discriminator together with its loss, so that one call of `forward` is one pass through the wrapped module.

    Args:
        discriminator: its weights are the only parameters here.
        kind: "hinge" or "vanilla".
        regularization: "none"; "r1", the squared gradient at real images (Mescheder et al. 2018, eq. 9); "lecam", the
            distance of the logits from the average of the other side's (Tseng et al. 2021, eq. 3).
        regularization_scale: weight of the regularisation; the gamma of "r1".
        average_decay: decay of the averages of the logits that "lecam" uses.
    """

    averages: torch.Tensor

    def __init__(
        self,
        discriminator: nn.Module,
        kind: str = "hinge",
        regularization: str = "none",
        regularization_scale: float = 0.0,
        average_decay: float = 0.99,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.kind = kind
        self.regularization = regularization
        self.regularization_scale = regularization_scale
        self.average_decay = average_decay
        self.register_buffer("averages", torch.zeros(2))  # of the logits: real, fake

    def forward(
        self, real: torch.Tensor, fake: torch.Tensor, backgrounds: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """One training pass.

        Args:
            real: images (B, C, H, W) in [-1, 1].
            fake: their reconstructions, without a graph.
            backgrounds: colours that both are seen over, (B, 3) in [-1, 1], if their fourth channel is alpha.

        Returns:
            "loss" with gradient, "discriminator_loss" without regularisation, "logits_real" and "logits_fake", their
            means, and the regularisation by its name.
        """
        if backgrounds is not None:
            real, fake = over(real.float(), backgrounds), over(fake.float(), backgrounds)
        penalized = self.regularization == "r1" and self.regularization_scale > 0
        real = real.detach().requires_grad_(penalized)
        logits_real, logits_fake = self.discriminator(real), self.discriminator(fake.detach())
        loss = discriminator_loss(logits_real, logits_fake, self.kind)
        means = torch.stack([logits_real.detach().float().mean(), logits_fake.detach().float().mean()])
        terms = {"discriminator_loss": loss.detach(), "logits_real": means[0], "logits_fake": means[1]}
        if penalized:
            (gradient,) = torch.autograd.grad(logits_real.float().sum(), real, create_graph=True)
            penalty = 0.5 * gradient.float().square().flatten(1).sum(1).mean()
        elif self.regularization == "lecam" and self.regularization_scale > 0:
            past_real, past_fake = self.averages.unbind()
            penalty = F.relu(logits_real.float() - past_fake).square().mean()
            penalty = penalty + F.relu(past_real - logits_fake.float()).square().mean()
            self._follow(means)
        else:
            return {"loss": loss, **terms}
        return {"loss": loss + self.regularization_scale * penalty, self.regularization: penalty.detach(), **terms}

    @torch.no_grad()
    def _follow(self, means: torch.Tensor) -> None:
        self.averages = self.averages.lerp(mean_over_processes(means), 1 - self.average_decay)
