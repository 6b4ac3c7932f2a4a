"""A perceptual distance between images, by the features of a frozen network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...datasets.framing import Size
from ...errors import UserError
from ...near import hint
from .base import logged_name
from .own import check_own_network, own_network

EPSILON = 1e-10
LPIPS_NETWORKS = {"lpips-vgg": "vgg", "lpips-alex": "alex", "lpips-squeeze": "squeeze"}
PERCEPTUAL = "perceptual"  # the name of a single distance

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class PerceptualTerm:
    """A perceptual distance as one of the terms of a loss.

    Attributes:
        name: in the curves and among the metrics.
        distance: of two batches of images, (x, y) -> (B,).
        weight: in the sum.
    """

    name: str
    distance: Distance
    weight: float = 1.0


class PerceptualDistance(nn.Module):
    """LPIPS: the weighted squared distance of normalised features (Zhang et al. 2018, eq. 1).

    The features are normalised by x / sqrt(sum x^2 + eps), whose gradient is finite for a vector of zeros too; that of
    the usual x / (sqrt(sum x^2) + eps) is not a number there. Computed in float32 in every precision.

    The network is frozen and stays in evaluation mode; the gradient goes through it to the images.

    Args:
        features: images (B, 3, H, W) in [-1, 1] -> a sequence of feature maps (B, C_l, H_l, W_l).
        weights: for each map, non-negative weights of its channels, (C_l,). Default: 1 / C_l.
    """

    def __init__(self, features: nn.Module, weights: Sequence[torch.Tensor] | None = None) -> None:
        super().__init__()
        self.features = features
        self.weights = None if weights is None else nn.ParameterList([w.detach().flatten() for w in weights])
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Do nothing: the network stays in evaluation mode."""
        return super().train(False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The distance of each pair of images (B, C, H, W) in [-1, 1]: (B,), 0 for equal ones.

        Of one or two channels the first is compared as gray; of more than three, the first three.
        """
        with torch.autocast(x.device.type, enabled=False):
            maps = zip(self.features(_rgb(x)), self.features(_rgb(y)), strict=True)
            total = x.new_zeros(len(x), dtype=torch.float32)
            for level, (a, b) in enumerate(maps):
                difference = (_normalized(a) - _normalized(b)).square()
                weights = None if self.weights is None else self.weights[level].view(1, -1, 1, 1)
                weighted = difference.mean(1) if weights is None else (difference * weights).sum(1)
                total = total + weighted.mean((1, 2))
        return total


def _rgb(x: torch.Tensor) -> torch.Tensor:
    return x.float()[:, :3] if x.shape[1] >= 3 else x.float()[:, :1].expand(-1, 3, -1, -1)


def _normalized(features: torch.Tensor) -> torch.Tensor:
    return features * (features.square().sum(1, keepdim=True) + EPSILON).rsqrt()


def load_perceptual_terms(
    weights: Mapping[str, float],
    channels: int,
    sizes: Sequence[Size],
    taken: Collection[str] = (),
    option: str = "perceptual_loss",
    trains: bool = True,
) -> list[PerceptualTerm]:
    """Load the networks that an option names, each with its weight.

    In the curves lpips-vgg is `lpips_vgg`, and MODULE:FUNCTION has the name of the function, or
    `perceptual_FUNCTION` where that means something else.

    Args:
        weights: by name, see `load_perceptual`.
        channels: of the images that are compared.
        sizes: that they can have, (width, height) in pixels.
        taken: what else is logged or measured.
        option: that names them.
        trains: whether they are losses, which need a gradient, rather than measures.

    Raises:
        UserError: if one cannot be loaded or compare such images, or two would have one name.
    """
    terms: dict[str, PerceptualTerm] = {}
    sources: dict[str, str] = {}
    for source, weight in weights.items():
        name = logged_name(source) if source in LPIPS_NETWORKS else source.rpartition(":")[2]
        name = f"{PERCEPTUAL}_{name}" if name in taken else name
        if name in terms:
            raise UserError(
                f"--{option} {sources[name]} and {source} would both be logged as {name}: give one of the "
                "functions another name."
            )
        network = load_perceptual(source, option)
        if source not in LPIPS_NETWORKS or not trains:
            check_perceptual(f"--{option} {source}", network, channels, sizes, trains)
        terms[name], sources[name] = PerceptualTerm(name, network, weight), source
    return list(terms.values())


def check_perceptual(
    what: str, network: nn.Module, channels: int, sizes: Sequence[Size], gradient: bool = True
) -> None:
    """Refuse a network that cannot compare the images of a run, see `check_own_network`."""
    returns = "a distance for each pair, (B,)"
    check_own_network(what, network, channels, sizes, inputs=2, returns=returns, one_each=True, gradient=gradient)


def load_perceptual(name: str, option: str = "perceptual_loss") -> nn.Module:
    """Load the network that an option names.

    Args:
        name: one of `LPIPS_NETWORKS` (the published weights, by the lpips package), or "module:function", a function
            of your own that returns a module (x, y) -> (B,), such as a `PerceptualDistance` of other features.
        option: for errors.

    Raises:
        UserError: if there is no such network, or a package for it is missing.
    """
    if name in LPIPS_NETWORKS:
        network: nn.Module = _load_lpips(LPIPS_NETWORKS[name], option)
    elif ":" in name:
        network = own_network(option, name)
    else:
        accepted = f"give one of {', '.join(LPIPS_NETWORKS)}, or MODULE:FUNCTION of your own."
        raise UserError(f"--{option} is {name!r}: {hint(name, LPIPS_NETWORKS, accepted)}")
    return network.requires_grad_(False).eval()


def _load_lpips(net: str, option: str) -> PerceptualDistance:
    try:
        import lpips

        published = lpips.LPIPS(net=net, verbose=False)
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"--{option} lpips-{net} needs the packages lpips and torchvision, and the weights that they fetch "
            f"({error}): pip install 'vae-plugin[lpips]', or give MODULE:FUNCTION of your own."
        ) from error
    return PerceptualDistance(
        nn.Sequential(published.scaling_layer, published.net), [layer.model[-1].weight for layer in published.lins]
    )
