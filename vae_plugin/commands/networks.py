"""What `evaluate` measures by the networks and the options that it was given, beside what it always measures."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .. import metrics
from ..datasets.framing import Size, shortest_side
from ..metrics.frechet import INCEPTION, FrechetDistance, InceptionFeatures
from ..metrics.reconstruction import MS_SSIM_SIDE, rounded
from ..training.losses.own import check_own_network, own_network
from ..training.losses.perceptual import load_perceptual_terms

NAMES = ("psnr", "ssim", "ms_ssim", "mse", "l1", "kl_nats", "elbo_nats", "rfid")  # that no network's measure may have


class MeasuredMore:
    """The measures of each image, and of the set, that options ask for.

    Args:
        perceptual: distances by name, see `load_perceptual`.
        fid: "inception", or MODULE:FUNCTION that returns a module of features.
        precisions: see `LowPrecision`.
        channels: of the images.
        side: the shorter one of the images in pixels.
        device: of the models.

    Raises:
        UserError: if a network cannot be loaded, or does not take such images.
    """

    def __init__(
        self,
        perceptual: Sequence[str],
        fid: str | None,
        precisions: Sequence[str],
        channels: int,
        sizes: Sequence[Size],
        device: torch.device,
    ) -> None:
        weights = dict.fromkeys(perceptual, 1.0)
        self._terms = load_perceptual_terms(weights, channels, sizes, NAMES, "perceptual", trains=False)
        for term in self._terms:
            if isinstance(term.distance, torch.nn.Module):
                term.distance.to(device)
        self._fid, self._features = fid, None if fid is None else _features(fid, channels, sizes)
        self._precisions = precisions
        self._ms_ssim = shortest_side(sizes) >= MS_SSIM_SIDE

    @torch.no_grad()
    def compare(self, images: torch.Tensor, reconstructions: torch.Tensor) -> dict[str, torch.Tensor]:
        """Values of each pair of images (B, C, H, W), by name; perceptual distances of the 8-bit images."""
        found = {"ms_ssim": metrics.ms_ssim(reconstructions, images)} if self._ms_ssim else {}
        x, y = rounded(images), rounded(reconstructions)
        return found | {term.name: term.distance(x, y).flatten() for term in self._terms}

    def measures(self) -> list[metrics.Measure]:
        """Measures of the set for one model."""
        made: list[metrics.Measure] = [metrics.KLPerChannel(), metrics.LatentMoments(), metrics.LatentRange()]
        if self._fid is not None and self._features is not None:
            name = "rfid" if self._fid == INCEPTION else f"frechet_{self._fid.rpartition(':')[2]}"
            made.append(FrechetDistance(self._features, name))
        return [*made, *map(metrics.LowPrecision, self._precisions)]


def _features(name: str, channels: int, sizes: Sequence[Size]) -> torch.nn.Module:
    if name == INCEPTION:
        return InceptionFeatures()
    network = own_network("fid", name).requires_grad_(False).eval()
    returns = "features of each image, (B, D)"
    check_own_network(
        f"--fid {name}", network, channels, sizes, inputs=1, returns=returns, one_each=False, gradient=False
    )
    return network
