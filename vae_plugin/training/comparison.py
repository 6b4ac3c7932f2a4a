"""The model that a run started from, measured on the same images as the result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..files import write_json

COMPARED = (
    "psnr", "ssim", "perceptual", "elbo_nats", "bits_per_dim", "kl_nats", "codebook_usage", "codebook_perplexity"
)  # fmt: skip
NORMAL_95 = 1.96  # half width of the interval that holds 95 % of a normal distribution, in standard deviations


def measure_base(measure: Callable[[dict[str, list[float]]], dict[str, float]], path: Path) -> None:
    """Measure the model before its first step and keep that at `path`, for `compare_with_base`.

    Args:
        measure: gives the metrics, and the values of each image to the dict that it is given.
        path: of a JSON file.
    """
    per_image: dict[str, list[float]] = {}
    metrics = measure(per_image)
    write_json(path, {"metrics": metrics, "psnr": per_image["psnr"]})


def compare_with_base(psnr: list[float], path: Path) -> dict[str, Any]:
    """What is to say of the base model beside the result.

    Args:
        psnr: of each image by the result.
        path: of what `measure_base` has kept; nothing is said if it is not there, or of other images.

    Returns:
        "base_NAME" for the metrics of the base model; "psnr_gain", the mean over images of the difference in PSNR, and
        "psnr_gain_ci95", half the width of its 95 % confidence interval, both in dB.
    """
    if not path.exists():
        return {}
    base = json.loads(path.read_text(encoding="utf-8"))
    if len(base["psnr"]) != len(psnr):
        return {}
    result = {f"base_{name}": base["metrics"][name] for name in COMPARED if name in base["metrics"]}
    gain = torch.tensor(psnr, dtype=torch.float64) - torch.tensor(base["psnr"], dtype=torch.float64)
    result["psnr_gain"] = gain.mean().item()
    if len(gain) > 1:
        result["psnr_gain_ci95"] = NORMAL_95 * gain.std().item() / math.sqrt(len(gain))
    return result
