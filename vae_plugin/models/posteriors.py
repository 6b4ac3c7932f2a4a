"""The approximate posterior q(z|x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..arguments import Instance, Several, Tensor, Whole, accepts

LOG_2PI = math.log(2 * math.pi)
LOGVAR_RANGE = (-30.0, 20.0)  # that of diffusers' own posterior, so that weights are interchangeable


@dataclass(frozen=True)
class NoiseShare:
    """The noise of one process's images in a batch that several processes share.

    Each process draws the noise of the whole batch from a generator of its own with the same seed, and takes its rows:
    so an image gets the same noise however many processes there are.

    Attributes:
        generator: in the same state on all processes.
        first: number of this process's first image in the batch.
        total: images of the batch.
    """

    generator: torch.Generator
    first: int
    total: int

    def draw(self, shape: Sequence[int], device: torch.device | str) -> torch.Tensor:
        """The rows of this process: noise of that shape (B, ...)."""
        first = min(self.first, self.total - shape[0])  # a process without an image works on one that does not count
        return standard_normal((self.total, *shape[1:]), self.generator, device)[first : first + shape[0]]


Generators = torch.Generator | Sequence[torch.Generator] | NoiseShare | None
GENERATORS = Instance(
    (torch.Generator, list, tuple, NoiseShare), "a torch.Generator, or one for each image", optional=True
)


@accepts(shape=Several(Whole()), generator=GENERATORS)
def standard_normal(
    shape: Sequence[int],
    generator: Generators = None,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Standard normal noise in float32.

    Args:
        shape: (B, ...).
        generator: one generator, one for each of the B samples, or a share of the noise of a larger batch. A generator
            draws on its own device, and the noise is then moved to `device`, so that a CPU seed gives the same noise on
            every device.
        device: device of the result.

    Raises:
        ValueError: if the number of generators differs from the batch size.
    """
    return unchecked_normal(shape, generator, device)


def unchecked_normal(shape: Sequence[int], generator: Generators, device: torch.device | str) -> torch.Tensor:
    """As `standard_normal`, without its checks, which take as long as a small draw."""
    if isinstance(generator, NoiseShare):
        return generator.draw(shape, device)
    if isinstance(generator, Sequence):
        if len(generator) != shape[0]:
            raise ValueError(f"got {len(generator)} generators for a batch of {shape[0]}: give one for each sample.")
        return torch.cat([standard_normal((1, *shape[1:]), g, device) for g in generator])
    source = device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, device=source, dtype=torch.float32).to(device)


@accepts(z=Tensor("B N ..."))
def standard_normal_log_prob(z: torch.Tensor) -> torch.Tensor:
    """Log N(z; 0, I), summed over all but the batch dimension: (B, ...) -> (B,) nats."""
    return -0.5 * (z.float().square() + LOG_2PI).flatten(1).sum(1)


class DiagonalGaussian:
    """q(z|x) = N(mean, diag exp(logvar)) over latents of any shape: flat (B, D) or spatial (B, C, H, W).

    All computation is in float32, whatever the network's precision: in float16 exp(logvar) overflows above 11.1, and so
    does a KL summed over an image. `sample` and `mode` return `dtype`, which the decoder expects.

    It has the methods of diffusers' `DiagonalGaussianDistribution` and can stand in for it in any pipeline.

    Args:
        mean: (B, ...).
        logvar: log sigma^2, same shape. Values are clamped to [-30, 20], but the gradient passes through the clamp, so
            that a posterior outside the range can come back.
        dtype: dtype of the results of `sample` and `mode`; defaults to that of `mean`.

    Raises:
        ValueError: if the shapes of `mean` and `logvar` differ.
    """

    deterministic = False

    @accepts(mean=Tensor(), logvar=Tensor())
    def __init__(self, mean: torch.Tensor, logvar: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        if mean.shape != logvar.shape:
            raise ValueError(f"mean {tuple(mean.shape)} and logvar {tuple(logvar.shape)} must have the same shape.")
        self.dtype = dtype or mean.dtype
        self.mean = mean.float()
        logvar = logvar.float()
        self.logvar = logvar.detach().clamp(*LOGVAR_RANGE) + (logvar - logvar.detach())

    @classmethod
    @accepts(parameters=Tensor())
    def from_parameters(cls, parameters: torch.Tensor, dtype: torch.dtype | None = None) -> DiagonalGaussian:
        """Split an encoder's output (B, 2C, ...) into the mean (first half of dimension 1) and logvar (second half).

        Raises:
            ValueError: if dimension 1 is missing or odd.
        """
        if parameters.ndim < 2 or parameters.shape[1] % 2:
            raise ValueError(f"got parameters of shape {tuple(parameters.shape)}: expected (batch, 2 * channels, ...).")
        mean, logvar = parameters.chunk(2, dim=1)
        return cls(mean, logvar, dtype)

    @property
    def parameters(self) -> torch.Tensor:
        """Mean and logvar as an encoder outputs them: (B, 2C, ...)."""
        return torch.cat([self.mean, self.logvar], dim=1).to(self.dtype)

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation sigma, same shape as the mean."""
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> torch.Tensor:
        """Variance sigma^2, same shape as the mean."""
        return torch.exp(self.logvar)

    def rsample(self, noise: torch.Tensor) -> torch.Tensor:
        """Reparameterised sample mean + sigma * noise in float32 (Kingma & Welling 2013, section 2.4)."""
        return self.mean + self.std * noise

    @accepts(generator=GENERATORS)
    def sample(self, generator: Generators = None) -> torch.Tensor:
        """Draw one reparameterised sample per posterior, in `dtype`; gradients flow to mean and logvar."""
        return self.rsample(standard_normal(self.mean.shape, generator, self.mean.device)).to(self.dtype)

    def mode(self) -> torch.Tensor:
        """The mean, in `dtype`."""
        return self.mean.to(self.dtype)

    def kl_per_dimension(self, other: DiagonalGaussian | None = None) -> torch.Tensor:
        """KL(q || other) of every dimension in nats, same shape as the mean; `other` defaults to N(0, I).

        Kingma & Welling 2013, appendix B.
        """
        if other is None:
            return 0.5 * (self.mean.square() + self.var - 1 - self.logvar)
        return 0.5 * (((self.mean - other.mean).square() + self.var) / other.var - 1 - self.logvar + other.logvar)

    def kl(self, other: DiagonalGaussian | None = None) -> torch.Tensor:
        """KL(q || other) per sample, summed over all dimensions: (B,) nats; `other` defaults to N(0, I)."""
        return self.kl_per_dimension(other).flatten(1).sum(1)

    @accepts(z=Tensor())
    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """log q(z|x), summed over all dimensions: (B, ...) -> (B,) nats."""
        self._check_shape(z)
        error = (z.float() - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (LOG_2PI + self.logvar + error).flatten(1).sum(1)

    @accepts(sample=Tensor())
    def nll(self, sample: torch.Tensor, dims: Sequence[int] | None = None) -> torch.Tensor:
        """-log q(sample|x) in nats, summed over `dims` (default: all but the batch)."""
        self._check_shape(sample)
        error = (sample.float() - self.mean).square() * torch.exp(-self.logvar)
        dims = tuple(range(1, self.mean.ndim)) if dims is None else tuple(dims)
        return 0.5 * (LOG_2PI + self.logvar + error).sum(dims)

    def _check_shape(self, z: torch.Tensor) -> None:
        if z.shape != self.mean.shape:
            raise ValueError(f"got latents of shape {tuple(z.shape)}: expected {tuple(self.mean.shape)}, as the mean.")
