"""Measured numbers as cards show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..json_types import fits

METRICS = {
    "psnr": ("PSNR of the reconstruction", "dB"),
    "ssim": ("SSIM of the reconstruction", ""),
    "composited_psnr": ("PSNR of the reconstruction over black and over white, their mean", "dB"),
    "elbo_nats": ("ELBO per image", "nats"),
    "log_likelihood_nats": ("importance-weighted bound on log p(x) per image", "nats"),
    "perceptual": ("perceptual distance of the reconstruction", ""),
    "psnr_to_teacher": ("PSNR between decoded latents and the images that the teacher decodes", "dB"),
    "latent_mse": ("mean squared error of the encoded latents, whose variance is about 1", ""),
    "latents_mean": ("mean of the latents in pipelines", ""),
    "latents_std": ("standard deviation of the latents in pipelines", ""),
    "bits_per_dim": ("-ELBO / (D ln 2), of D values per image", "bits"),
    "bits_per_dim_bound": ("-ELBO / (D ln 2) + log2 127.5, an upper bound on bits per value at 8 bits", "bits"),
    "kl_nats": ("KL divergence of the posterior from the prior per image", "nats"),
    "mutual_information_nats": ("of the KL: mutual information of images and latents", "nats"),
    "total_correlation_nats": ("of the KL: total correlation of the latents", "nats"),
    "dimension_kl_nats": ("of the KL: that of each latent dimension's own distribution", "nats"),
    "kl_terms_images": ("training images whose posteriors these three are summed over", ""),
    "active_units": ("active latent units", ""),
    "mig": ("mutual information gap (MIG) of the latents on known factors, of 1", ""),
    "dci_disentanglement": ("disentanglement (DCI) of the latents on known factors, of 1", ""),
    "factor_vae_score": ("FactorVAE score of the latents on known factors, of 1", ""),
    "continuity_worst": ("largest of 16 steps between two latents, 1 being even in pixel space", ""),
    "prior_coverage": ("share of held-out images that samples of the prior come near, of 1", ""),
    "codebook_usage": ("share of codes in use", ""),
    "codebook_perplexity": ("perplexity of the codes", ""),
    "dead_codes": ("unused codes", ""),
    "codebook_positions": ("positions counted for these three", ""),
    "clip_psnr": ("PSNR of the later frames of short clips, made of a few of the images", "dB"),
}
COSTS = {  # of a new decoder beside another
    "decoder_parameters": ("weights of the decoder", ""),
    "decode_memory_mib": ("these weights and the most memory taken while one image is decoded", "MiB"),
    "decode_time_ratio": ("time of decoding one image, that of the base model being 1", ""),
}
SMALLEST_LOSS = 0.01  # dB of PSNR in clips that is worth a sentence
RENAMED = {"codebook_tokens": "codebook_positions"}  # names in the metrics.json of 0.1


@dataclass
class Row:
    """A line of the table of results.

    Attributes:
        name: of the metric.
        value: of the model, with its unit.
        base: of the base model; "" where it was not measured.
    """

    name: str
    value: str
    base: str


class Results:
    """The numbers of metrics.json; whatever is not a finite number counts as not measured.

    Args:
        metrics: content of metrics.json.
        perceptual: names of the perceptual distances among them, of a run with several.
    """

    def __init__(self, metrics: Mapping[str, Any], perceptual: Iterable[str] = ()) -> None:
        self.shown = dict(METRICS)
        for name in perceptual:
            if name.isidentifier():
                self.shown.setdefault(name, (f"perceptual distance {name} of the reconstruction", ""))
        self._metrics = {RENAMED.get(name, name): value for name, value in metrics.items()}

    def __getitem__(self, name: str) -> float | None:
        """A measured number; None if there is none."""
        value = self._metrics.get(name)
        return value if fits(value, float) else None

    def written(self, name: str) -> str | None:
        """A measured number in four digits, or in all of them if it is whole; None if there is none."""
        value = self[name]
        return None if value is None else written(value)

    def measured(self) -> dict[str, float]:
        """The metrics that cards show, by name."""
        return {name: value for name in self.shown if (value := self[name]) is not None}

    def rows(self) -> list[Row]:
        """The table of results."""
        rows = []
        for key, (name, unit) in {**self.shown, **COSTS}.items():
            if self[key] is None:
                continue
            unit = f" {unit}" if unit else ""
            deviation = self.written("psnr_std") if key == "psnr" else None
            base = self.written(f"base_{key}")
            rows.append(
                Row(
                    name if deviation is None else f"{name}, ± standard deviation over images",
                    f"{self.written(key)}{'' if deviation is None else f' ± {deviation}'}{unit}",
                    "" if base is None else base + unit,
                )
            )
        return rows

    def gain(self) -> str | None:
        """The difference from the base model on the same images, with its confidence interval."""
        return self._difference("psnr", "of PSNR")

    def clip_gain(self) -> str | None:
        """The difference from the base model on the same short clips, of a class of videos."""
        return self._difference("clip_psnr", "of PSNR in short clips")

    def clip_loss(self) -> str | None:
        """What short clips have lost, with its confidence interval; None if nothing that was certain."""
        gain, half = self["clip_psnr_gain"], self["clip_psnr_gain_ci95"]
        if gain is None or gain + (half or 0.0) > -SMALLEST_LOSS:
            return None
        interval = "" if half is None else f" (95 % confidence interval {-gain - half:.3g} to {-gain + half:.3g})"
        return f"{-gain:.3g} dB of PSNR{interval}"

    def _difference(self, name: str, of_what: str) -> str | None:
        gain, half = self[f"{name}_gain"], self[f"{name}_gain_ci95"]
        if gain is None:
            return None
        interval = "" if half is None else f" (95 % confidence interval {gain - half:+.3g} to {gain + half:+.3g})"
        return f"{gain:+.3g} dB {of_what}{interval}"


def written(value: float) -> str:
    """A number as cards show it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time in the two largest units that it fills."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
