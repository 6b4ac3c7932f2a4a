"""The Fréchet distance between images and their reconstructions, by the features of a network (rFID)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import NotFiniteError, UserError
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from ..notices import say
from .measures import Seen
from .reconstruction import rounded

INCEPTION = "inception"


class FeatureMoments:
    """Mean and covariance of a stream of vectors, in float64 on the CPU, merged as in Chan et al. 1979.

    Attributes:
        count: vectors so far.
        mean: of them, (D,).
        products: sum of the outer products of their deviations from the mean, (D, D).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.products = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, vectors: torch.Tensor) -> None:
        """Take vectors (N, D), N at least 1."""
        values = exact(vectors)
        mean = values.mean(0)
        self._merge(len(values), mean, (values - mean).T @ (values - mean))

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        streams = objects_over_processes((self.count, self.mean, self.products))
        self.count = 0
        for stream in streams:
            if stream[0]:
                self._merge(*stream)

    @property
    def covariance(self) -> torch.Tensor:
        """(D, D), normalised by count - 1."""
        return self.products / (self.count - 1)

    def _merge(self, count: int, mean: torch.Tensor, products: torch.Tensor) -> None:
        if not self.count:
            self.count, self.mean, self.products = count, mean, products
            return
        total, difference = self.count + count, mean - self.mean
        self.products = self.products + products + torch.outer(difference, difference) * (self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.count = total


def frechet_distance(one: FeatureMoments, other: FeatureMoments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), of two Gaussians with these moments (Heusel et al. 2017, eq. 6).

    The trace of the root is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: so it
    is a real number also where a covariance is singular, as it is of fewer images than features.

    Raises:
        NotFiniteError: if a moment is NaN or infinite.
    """
    for moments in (one, other):
        if not (moments.mean.isfinite().all() and moments.products.isfinite().all()):
            raise NotFiniteError("a feature that a Fréchet distance compares")
    values, vectors = torch.linalg.eigh(one.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp_min(0).sqrt().sum()
    traces = one.covariance.trace() + other.covariance.trace()
    return max(0.0, ((one.mean - other.mean).square().sum() + traces - 2 * shared).item())


class FrechetDistance:
    """A `Measure`: the Fréchet distance between the images and their reconstructions, both rounded to 8 bits.

    It has a bias that falls with the number of images and rises with that of features: compare only what was measured
    on the same images. It has no interval, as a bootstrap of it would need all features in memory.

    Args:
        network: images (B, C, H, W) in [-1, 1] to features (B, D), or (B, D, ...) of which the mean over positions is
            taken; it computes in float32, and is moved to the device of the images.
        name: of the metric.

    Raises:
        UserError: by `update`, if the features are not of that shape.
    """

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor], name: str = "rfid") -> None:
        self.network, self.name = network, name
        self._images, self._reconstructions = FeatureMoments(), FeatureMoments()

    @torch.no_grad()
    def update(self, seen: Seen) -> None:
        """Take the features of a batch."""
        if isinstance(self.network, torch.nn.Module):
            self.network.to(seen.images.device)
        for moments, images in ((self._images, seen.images), (self._reconstructions, seen.reconstructions)):
            features = self.network(rounded(images))
            vectors = features.flatten(2).mean(2) if features.ndim > 2 else features
            length = len(moments.mean) if moments.count else vectors.shape[-1:].numel()
            if vectors.shape != (len(images), length):
                raise UserError(
                    f"{self.name}: the network gives features of shape {tuple(features.shape)} for {len(images)} "
                    "image(s): it must give (B, D), with the same D for all images."
                )
            moments.update(vectors)

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        self._images.all_reduce()
        self._reconstructions.all_reduce()

    def result(self) -> dict[str, Any]:
        """The distance; nothing of fewer than two images, which have no covariance."""
        count, features = self._images.count, len(self._images.mean)
        if count < 2:
            say(f"{self.name} is absent: it takes two images at least.")
            return {}
        if count <= features:
            say(
                f"{self.name} is of {count:,} images and {features:,} features: with so few images it is far too "
                "large, and tells only models apart that were measured on the same images."
            )
        return {self.name: frechet_distance(self._images, self._reconstructions)}


class InceptionFeatures(torch.nn.Module):
    """The 2,048 features of the FID, from the network that torch-fidelity converted from the original.

    Gray images are compared as RGB; of more than three channels the first three.

    Raises:
        UserError: if its packages are not installed, or its weights cannot be fetched.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

            self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
        except (ImportError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(
                f"--fid {INCEPTION} needs the packages torch-fidelity and torchvision and the weights that they fetch "
                f"({reason}): pip install 'vae-plugin[fid]', or give MODULE:FUNCTION of your own."
            ) from error
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) in [-1, 1] to features (B, 2048)."""
        rgb = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
        return self.network(((rgb * 127.5) + 127.5).round().to(torch.uint8))[0]
