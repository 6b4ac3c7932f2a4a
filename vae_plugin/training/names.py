"""The names of curves and metrics that mean something in every run, and so cannot name a loss of one's own."""

from __future__ import annotations

from ..hub import METRICS
from ..hub.results import COSTS
from .best import HIGHER_IS_BETTER
from .losses.base import logged_name
from .losses.pixels import PIXEL_LOSSES

_OF_LOSSES = (
    "loss", "reconstruction", "mse", "alpha", "perceptual", "adversarial", "adversarial_weight", "variance", "anchor",
    "codebook", "commitment", "entropy", "discriminator_loss", "logits_real", "logits_fake", "r1", "lecam",
    "gradient_norm", "disc_gradient_norm", "learning_rate",
)  # fmt: skip
_OF_RESULTS = (
    "steps", "step", "num_images", "num_importance_samples", "images_per_second", "finite", "psnr_std", "psnr_worst",
    "psnr_median", "psnr_best", "psnr_gain", "psnr_gain_ci95", "clip_psnr_gain", "clip_psnr_gain_ci95",
)  # fmt: skip
NAMES = frozenset((*map(logged_name, PIXEL_LOSSES), *HIGHER_IS_BETTER, *METRICS, *COSTS, *_OF_LOSSES, *_OF_RESULTS))


def may_name_a_loss(name: str) -> bool:
    """Whether a perceptual distance of one's own may have that name in the curves."""
    return name.isidentifier() and len(name) <= 200 and name not in NAMES
