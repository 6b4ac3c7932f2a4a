"""Likelihoods p(x|z), parameterised by the decoder's output.

Every likelihood takes images x of shape (B, C, H, W) in [-1, 1] and the decoder's output of shape
(B, C * parameters_per_channel, H, W), and returns log-probabilities per image in nats and float32, summed over pixels
and channels with every constant kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..arguments import Tensor, Whole, accepts
from .distributed import mean_over_processes
from .posteriors import LOG_2PI, standard_normal

LOG_SCALE_FLOOR = -6.0

ScaleSetting = float | Literal["learned", "optimal"]


class Likelihood(nn.Module):
    """Base class of the likelihoods p(x|z).

    Attributes:
        parameters_per_channel: channels of the decoder's output for each channel of the image.
        is_density: whether p(x|z) is a density over [-1, 1] rather than a probability of discrete pixels.
    """

    parameters_per_channel: int = 1
    is_density: bool = False

    @accepts(x=Tensor("B ..."), decoder_output=Tensor("B ..."))
    def log_prob(self, x: torch.Tensor, decoder_output: torch.Tensor) -> torch.Tensor:
        """log p(x|z) per image: (B,) nats."""
        return -self._cost(x, decoder_output).flatten(1).sum(1)

    @accepts(x=Tensor("B C H W"), decoder_output=Tensor("K B D H W"))
    def log_prob_of_samples(self, x: torch.Tensor, decoder_output: torch.Tensor) -> torch.Tensor:
        """log p(x|z) of K samples of z for each image: (B, C, H, W), (K, B, C', H, W) -> (K, B) nats.

        As `log_prob` of images that are repeated, which would take a third of the time of small decoders.
        """
        return -self._cost(x, decoder_output).flatten(2).sum(2)

    def _cost(self, x: torch.Tensor, decoder_output: torch.Tensor) -> torch.Tensor:
        """-log p of each number of an image, in nats, of the decoder's output with any dimensions before (C', H, W)."""
        raise NotImplementedError

    def mean(self, decoder_output: torch.Tensor) -> torch.Tensor:
        """E[x|z] in the pixel range [-1, 1]: (B, C, H, W)."""
        raise NotImplementedError

    def sample(self, decoder_output: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Sample of p(x|z): (B, C, H, W)."""
        raise NotImplementedError


def _uniform(like: torch.Tensor, generator: torch.Generator | Sequence[torch.Generator] | None) -> torch.Tensor:
    """Uniform noise in (0, 1): the normal CDF of `standard_normal`, which follows its rules for generators."""
    return torch.special.ndtr(standard_normal(like.shape, generator, like.device)).clamp(1e-7, 1 - 1e-7)


class Bernoulli(Likelihood):
    """Bernoulli likelihood; the decoder outputs the logits of pixel = 1 (that is, x = +1).

    A probability for binary images. For gray values in between it is the usual cross-entropy, which is not a normalised
    density: such values can only be compared with each other.
    """

    def _cost(self, x: torch.Tensor, decoder_output: torch.Tensor) -> torch.Tensor:
        target = ((x.float() + 1) / 2).expand_as(decoder_output)
        # From logits, because torch clamps the cross-entropy of probabilities at 100 nats per pixel.
        return F.binary_cross_entropy_with_logits(decoder_output.float(), target, reduction="none")

    @accepts(decoder_output=Tensor())
    def mean(self, decoder_output: torch.Tensor) -> torch.Tensor:
        return 2 * torch.sigmoid(decoder_output) - 1

    def sample(self, decoder_output: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        ones = _uniform(decoder_output, generator) < torch.sigmoid(decoder_output.float())
        return 2 * ones.to(decoder_output.dtype) - 1


class NoiseScale(nn.Module):
    """Noise scale (sigma of a Gaussian, b of a Laplace) shared by all pixels, in units of the [-1, 1] range.

    - A number is a fixed scale.
    - "learned" is a parameter with log scale = -6 + softplus(free + 6), which approaches but never falls below e^-6.
      Without that floor an exact reconstruction would drive the likelihood to infinity.
    - "optimal" is the maximum-likelihood scale of the batch in closed form, over all processes, at least e^-6 (Rybkin,
      Daniilidis & Levine 2021, "Simple and Effective VAE Training with Calibrated Decoders", eq. 4). A scale fitted to
      the same images that it is evaluated on gives no bound on their likelihood, so evaluation mode uses the running
      average of training. Before the first training step there is no average, and the scale of the batch is used.

    Args:
        setting: a positive number, "learned" or "optimal".
        power: p such that scale^p is the mean of |x - mean|^p at the optimum: 2 for a Gaussian, 1 for a Laplace.
        momentum: momentum of the running average of the "optimal" scale^p.

    Raises:
        ValueError: if `setting` is none of these.
    """

    free_log_scale: nn.Parameter
    log_scale: torch.Tensor
    num_updates: torch.Tensor

    def __init__(self, setting: ScaleSetting, power: int, momentum: float = 0.05) -> None:
        super().__init__()
        is_number = isinstance(setting, (int, float)) and not isinstance(setting, bool) and 0 < setting < math.inf
        if not (setting in ("learned", "optimal") or is_number):
            raise ValueError(f"the noise scale is {setting!r}: give a positive number, 'learned' or 'optimal'.")
        self.setting = setting
        self.power = power
        self.momentum = momentum
        if setting == "learned":
            self.free_log_scale = nn.Parameter(torch.tensor(math.log(math.expm1(-LOG_SCALE_FLOOR)) + LOG_SCALE_FLOOR))
        elif setting == "optimal":
            self.register_buffer("log_scale", torch.zeros(()))
            self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))

    def extra_repr(self) -> str:
        return f"{self.setting!r}, power={self.power}"

    def forward(self, deviation: torch.Tensor) -> torch.Tensor:
        """Log scale, shape () in float32, for a batch of |x - mean|^power of shape (B, ...)."""
        if self.setting == "learned":
            return LOG_SCALE_FLOOR + F.softplus(self.free_log_scale.float() - LOG_SCALE_FLOOR)
        if self.setting != "optimal":
            return torch.tensor(math.log(self.setting), device=deviation.device)
        if self.training:
            # Detached: the derivative with respect to the scale is zero at the optimum, so nothing is lost.
            moment = mean_over_processes(deviation.mean())
            self._update(moment)
        elif self.num_updates > 0:
            return self.log_scale.float()
        else:
            moment = deviation.detach().mean()
        return self._log_scale(moment)

    def current(self) -> torch.Tensor:
        """Scale for sampling, shape (): fixed, learned, or the running average (1 before any training)."""
        if self.setting == "learned":
            return torch.exp(LOG_SCALE_FLOOR + F.softplus(self.free_log_scale.float() - LOG_SCALE_FLOOR))
        if self.setting == "optimal":
            return torch.exp(self.log_scale.float())
        return torch.tensor(float(self.setting))

    @torch.no_grad()
    def fit(self, moment: torch.Tensor) -> None:
        """Set an "optimal" scale from the mean of |x - mean|^power over a data set, shape ()."""
        self.log_scale.copy_(self._log_scale(moment.float()))
        self.num_updates.clamp_(min=1)

    def _log_scale(self, moment: torch.Tensor) -> torch.Tensor:
        return (moment.log() / self.power).clamp_min(LOG_SCALE_FLOOR)

    @torch.no_grad()
    def _update(self, moment: torch.Tensor) -> None:
        average = torch.exp(self.power * self.log_scale.float())
        weight = torch.where(self.num_updates == 0, torch.ones_like(average), self.momentum * torch.ones_like(average))
        self.log_scale.copy_(self._log_scale(average + weight * (moment - average)))
        self.num_updates += 1


class Gaussian(Likelihood):
    """Gaussian likelihood N(x; decoder output, sigma^2 I) with one sigma for all pixels.

    With sigma = 1 it is half the squared error, up to a constant.

    Args:
        sigma: a positive number (in units of the [-1, 1] range), "learned" or "optimal", see `NoiseScale`.
    """

    is_density = True

    def __init__(self, sigma: ScaleSetting = 1.0) -> None:
        super().__init__()
        self.scale = NoiseScale(sigma, power=2)

    def _cost(self, x: torch.Tensor, decoder_output: torch.Tensor) -> torch.Tensor:
        squared = (x.float() - decoder_output.float()).square()
        log_sigma = self.scale(squared)
        return squared * (0.5 * torch.exp(-2 * log_sigma)) + (log_sigma + LOG_2PI / 2)

    @accepts(decoder_output=Tensor())
    def mean(self, decoder_output: torch.Tensor) -> torch.Tensor:
        return decoder_output

    def sample(self, decoder_output: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        sigma = self.scale.current()
        noise = standard_normal(decoder_output.shape, generator, decoder_output.device)
        return (decoder_output + sigma * noise).to(decoder_output.dtype)


class Laplace(Likelihood):
    """Laplace likelihood with one scale b for all pixels, the likelihood behind the L1 loss.

    Args:
        scale: b, a positive number (in units of the [-1, 1] range), "learned" or "optimal", see `NoiseScale`.
    """

    is_density = True

    def __init__(self, scale: ScaleSetting = 1.0) -> None:
        super().__init__()
        self.scale = NoiseScale(scale, power=1)

    def _cost(self, x: torch.Tensor, decoder_output: torch.Tensor) -> torch.Tensor:
        absolute = (x.float() - decoder_output.float()).abs()
        log_scale = self.scale(absolute)
        return absolute * torch.exp(-log_scale) + (log_scale + math.log(2))

    @accepts(decoder_output=Tensor())
    def mean(self, decoder_output: torch.Tensor) -> torch.Tensor:
        return decoder_output

    def sample(self, decoder_output: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        centred = _uniform(decoder_output, generator) - 0.5
        noise = -centred.sign() * torch.log1p(-2 * centred.abs())
        return (decoder_output + self.scale.current() * noise).to(decoder_output.dtype)


class DiscretizedLogisticMixture(Likelihood):
    """Exact probability of 8-bit pixels: a mixture of logistics integrated over each of the 256 bins.

    Salimans et al. 2017 (PixelCNN++), section 2.1. Every channel of every pixel has its own mixture; channels are not
    coupled, so any number of them works. Images are rounded to the nearest of the 256 levels -1 + 2k/255. The outermost
    bins extend to infinity, so the 256 probabilities sum to one.

    Args:
        num_mixtures: number of components per pixel and channel; the decoder outputs a logit, a mean and a log scale
            for each.

    Raises:
        ValueError: if `num_mixtures` is below 1.
    """

    @accepts(num_mixtures=Whole(1))
    def __init__(self, num_mixtures: int = 10) -> None:
        super().__init__()
        self.num_mixtures = num_mixtures
        self.parameters_per_channel = 3 * num_mixtures

    def _split(self, decoder_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log weights, means and log scales, each (..., C, K, H, W) in float32."""
        if decoder_output.shape[-3] % self.parameters_per_channel:
            raise ValueError(
                f"got parameters of shape {tuple(decoder_output.shape)}: expected (B, channels * "
                f"{self.parameters_per_channel}, H, W)."
            )
        parameters = decoder_output.float().unflatten(-3, (-1, self.parameters_per_channel))
        logits, means, log_scales = parameters.chunk(3, dim=-3)
        # Below this floor a component is so narrow that all other levels have probability 0 in float32.
        return logits.log_softmax(-3), means, log_scales.clamp_min(-7.0)

    @accepts(x=Tensor("B C H W"), decoder_output=Tensor("B K H W"))
    def log_prob(self, x: torch.Tensor, decoder_output: torch.Tensor) -> torch.Tensor:
        return -self._cost(x, decoder_output).flatten(1).sum(1)

    def _cost(self, x: torch.Tensor, decoder_output: torch.Tensor) -> torch.Tensor:
        if decoder_output.shape[-3] != x.shape[1] * self.parameters_per_channel:
            raise ValueError(
                f"got parameters of shape {tuple(decoder_output.shape)} for images of shape {tuple(x.shape)}: expected "
                f"{x.shape[1] * self.parameters_per_channel} channels."
            )
        log_weights, means, log_scales = self._split(decoder_output)
        level = ((x.float() + 1) * 127.5).round().clamp(0, 255).unsqueeze(-3)
        inverse_scale = torch.exp(-log_scales)
        upper = ((level + 0.5) / 127.5 - 1 - means) * inverse_scale
        lower = ((level - 0.5) / 127.5 - 1 - means) * inverse_scale
        # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)), exact in both tails.
        width = inverse_scale / 127.5
        inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        log_bin = torch.where(level == 0, F.logsigmoid(upper), torch.where(level == 255, F.logsigmoid(-lower), inner))
        return -torch.logsumexp(log_weights + log_bin, dim=-3)

    @accepts(decoder_output=Tensor("B K H W"))
    def mean(self, decoder_output: torch.Tensor) -> torch.Tensor:
        # E[clamp(X, -1, 1)] of a logistic is the integral of P(X > t) over [-1, 1], minus 1. The mean over the 256
        # levels is its midpoint rule, which differs by less than half a level.
        log_weights, means, log_scales = self._split(decoder_output)
        scales = log_scales.exp()
        above = F.softplus((means + 1) / scales) - F.softplus((means - 1) / scales)
        return (log_weights.exp() * (scales * above - 1)).sum(2).to(decoder_output.dtype)

    def sample(self, decoder_output: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        log_weights, means, log_scales = self._split(decoder_output)
        gumbel = -torch.log(-torch.log(_uniform(log_weights, generator)))
        chosen = (log_weights + gumbel).argmax(2, keepdim=True)
        mean, log_scale = (t.gather(2, chosen).squeeze(2) for t in (means, log_scales))
        uniform = _uniform(mean, generator)
        x = mean + torch.exp(log_scale) * (torch.log(uniform) - torch.log1p(-uniform))
        level = ((x + 1) * 127.5).round().clamp(0, 255)
        return (level / 127.5 - 1).to(decoder_output.dtype)
