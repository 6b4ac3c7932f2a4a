"""The table that `evaluate` prints: a row for each metric, a column for each model."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..hub.results import METRICS, written
from ..notices import showable

WIDTH_OF_PIPES = 240  # characters: nothing is wrapped where no terminal says how wide it is
TITLES = {
    "psnr": ("PSNR", "dB"),
    "psnr_std": ("  its standard deviation over images", "dB"),
    "psnr_worst": ("  worst", "dB"),
    "psnr_median": ("  median", "dB"),
    "psnr_best": ("  best", "dB"),
    "ssim": ("SSIM", ""),
    "ms_ssim": ("MS-SSIM", ""),
    "mse": ("mean squared error, in [-1, 1]", ""),
    "l1": ("mean absolute error, in [-1, 1]", ""),
    "rfid": ("rFID, by Inception", ""),
    "clip_psnr": ("PSNR in short clips", "dB"),
    "elbo_nats": ("ELBO", "nats"),
    "kl_nats": ("KL from the prior", "nats"),
    "bits_per_dim": ("bits per dimension", "bits"),
    "bits_per_dim_bound": ("bits per dimension at 8 bits, at most", "bits"),
    "log_likelihood_nats": ("importance-weighted log p(x)", "nats"),
    "log_likelihood_nats_se": ("  its standard error", "nats"),
    "num_importance_samples": ("  importance samples", ""),
    "active_units": ("active units", ""),
    "mig": ("known factors: MIG", ""),
    "modularity": ("  modularity", ""),
    "factor_vae_score": ("  score of FactorVAE", ""),
    "beta_vae_score": ("  score of beta-VAE", ""),
    "sap": ("  SAP", ""),
    "dci_disentanglement": ("  DCI: disentanglement", ""),
    "dci_completeness": ("  DCI: completeness", ""),
    "dci_informativeness": ("  DCI: informativeness", ""),
    "continuity_mean": ("steps between two latents, 1 in pixel space: mean", ""),
    "continuity_worst": ("  largest of 16, mean over pairs", ""),
    "continuity_largest": ("  largest of all pairs", ""),
    "continuity_pairs": ("  pairs", ""),
    "aggregate_kl_nats": ("KL of all latents' mean and covariance from the prior", "nats"),
    "aggregate_mmd": ("  squared MMD from the prior", ""),
    "prior_coverage": ("coverage of held-out images by samples of the prior", ""),
    "prior_density": ("  density", ""),
    "image_coverage": ("  coverage by other images", ""),
    "image_density": ("  density of these", ""),
    "expected_coverage": ("  coverage expected of one distribution", ""),
    "bits_per_pixel": ("indices, per pixel", "bits"),
    "drift_psnr_1": ("PSNR after 1 round trip", "dB"),
    "drift_psnr_2": ("  after 2", "dB"),
    "drift_psnr_5": ("  after 5", "dB"),
    "drift_images": ("  images that went round", ""),
    "flat_shift": ("images of one colour: shift", "levels"),
    "flat_inside_rms": ("  deviation inside", "levels"),
    "flat_border_rms": ("  at the border", "levels"),
    "flat_grid_rms": ("  in the grid of the compression ratio", "levels"),
    "flat_grid_share": ("  share of the grid", ""),
    "encode_images_per_second": ("encoded per second", "images"),
    "decode_images_per_second": ("decoded per second", "images"),
    "encode_memory_mib": ("memory to encode", "MiB"),
    "decode_memory_mib": ("memory to decode", "MiB"),
    "throughput_batch_size": ("  images at once, for these", ""),
}
OF_PRECISIONS = {
    "psnr": ("PSNR of {0} against the model as it is", "dB"),
    "psnr_worst": ("  worst", "dB"),
    "not_finite": ("  images that {0} makes NaN or infinite", ""),
}
CHANNELS = {
    "kl_nats_per_channel": ("KL of each channel, least to most", "nats"),
    "pipeline_mean_per_channel": ("channel means, as pipelines have them", ""),
    "pipeline_std_per_channel": ("channel standard deviations, likewise", ""),
    "latent_min_per_channel": ("channel minima of the latents", ""),
    "latent_max_per_channel": ("channel maxima of the latents", ""),
}
COLOURS = {  # of each channel of the images, in their order
    "drift_bias_1": ("colour change in 1 round trip, by channel", "levels"),
    "drift_bias_2": ("  in 2", "levels"),
    "drift_bias_5": ("  in 5", "levels"),
}
FIRST = ("psnr", "psnr_std", "psnr_worst", "psnr_median", "psnr_best", "ssim", "ms_ssim", "mse", "l1")
LAST = ("num_images",)
DIGITS = 4


def print_table(models: Mapping[str, Mapping[str, Any]], paired: Mapping[str, Any], caption: str) -> None:
    """Print to stdout, coloured on a terminal only.

    Args:
        models: the content of the JSON file for each model, by name; those without numbers have "error".
        paired: see `paired_differences`.
        caption: below the table.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES, highlight=False)
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("")
    for name in models:
        table.add_column(_text(name, bold=True), justify="right")
    for metric in _order(models):
        title, unit = _title(metric)
        cells = [_cell(metric, values, paired.get(name, {})) for name, values in models.items()]
        table.add_row(Text(f"{title}, {unit}" if unit else title), *cells)
    for titles, show in ((CHANNELS, _spread), (COLOURS, _in_order)):
        for metric, (title, unit) in titles.items():
            lists = [values.get("per_channel", {}).get(metric) for values in models.values()]
            if any(lists):
                table.add_row(Text(f"{title}, {unit}" if unit else title), *map(show, lists))
    console.print(table)
    console.print(_text(caption))
    for name, values in models.items():
        if "error" in values:
            console.print(_text(f"{name}: {values['error']}"))


def _order(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """All metrics that a model has: reconstruction first, the others as they were measured."""
    numbers = {metric: None for values in models.values() for metric, value in values.items() if _is_number(value)}
    others = [metric for metric in numbers if metric not in FIRST and metric not in LAST]
    return [*(metric for metric in FIRST if metric in numbers), *others]


def _title(metric: str) -> tuple[str, str]:
    precision, _, rest = metric.partition("_")
    if precision in ("fp16", "bf16"):
        title, unit = OF_PRECISIONS[rest]
        return title.format(precision), unit
    return TITLES.get(metric) or METRICS.get(metric) or (metric.replace("_", " "), "")


def _cell(metric: str, values: Mapping[str, Any], differences: Mapping[str, Any]) -> Text:
    value = values.get(metric)
    if value is None or not _is_number(value):
        return Text("-")
    half = values.get("ci95", {}).get(metric)
    cell = Text(written(value) + ("" if half is None else f" ± {_two_digits(half)}"))
    if metric in differences:
        difference = differences[metric]
        cell.append(f"  ({_with_interval(**difference)})", style="dim")
    return cell


def _two_digits(value: float) -> str:
    """Two significant digits, and from 100 all of the whole number: no 1.2e+02."""
    return f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.2g}"


def _with_interval(difference: float, low: float | None = None, high: float | None = None) -> str:
    """A difference and its interval, to the digits that tell the two bounds apart."""
    if low is None or high is None or not high > low:
        return f"{difference:+.3g}" + ("" if low is None else f", {low:+.3g} to {high:+.3g}")
    decimals = max(0, 1 - math.floor(math.log10(high - low)))
    return f"{difference:+.{decimals}f}, {low:+.{decimals}f} to {high:+.{decimals}f}"


def _spread(values: Sequence[float] | None) -> Text:
    """A few numbers as they are, many by their least, middle and largest."""
    if not values:
        return Text("-")
    ordered = sorted(values)
    shown = ordered if len(ordered) <= DIGITS else [ordered[0], ordered[len(ordered) // 2], ordered[-1]]
    return Text(" … ".join(f"{value:.3g}" for value in shown) + f"  ({len(values)})")


def _in_order(values: Sequence[float] | None) -> Text:
    """The first few numbers."""
    return Text("-" if not values else "  ".join(f"{value:+.2f}" for value in values[:DIGITS]))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: str, bold: bool = False) -> Text:
    return Text(showable(value, sys.stdout), style="bold" if bold else "")
