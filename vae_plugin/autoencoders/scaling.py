"""How the fields of a config say that pipelines scale latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

LEAST_SPREAD = 0.01  # of the channels' root mean square: a channel below it is hardly used
UNSCALED = {"scaling_factor": 1.0, "shift_factor": 0.0}
SCALING_FIELDS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


@dataclass(frozen=True)
class LatentChange:
    """How a change of weights changed the latents of a model: to (z - mean) / std.

    Attributes:
        mean: of each channel, (C,) float64.
        std: likewise.
    """

    mean: torch.Tensor
    std: torch.Tensor


def scaling_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set, as plain values."""
    values = {name: config.get(name) for name in SCALING_FIELDS}
    return {
        name: list(value) if isinstance(value, (list, tuple)) else value
        for name, value in values.items()
        if value is not None
    }


def scaled(config: Mapping[str, Any], z: torch.Tensor) -> torch.Tensor:
    """Latents (B, c, h, w) as a pipeline of `AutoencoderKL` gives them to its denoiser."""
    mean, std = config.get("latents_mean"), config.get("latents_std")
    scale = config.get("scaling_factor") or 1.0
    if mean is not None and std is not None:
        mean, std = (torch.tensor(v, dtype=z.dtype, device=z.device).view(1, -1, 1, 1) for v in (mean, std))
        return (z - mean) * scale / std
    return (z - (config.get("shift_factor") or 0.0)) * scale


def rule(config: Mapping[str, Any]) -> str | None:
    """`scaled` as a formula of z, from the fields that an adapter's `latent_scaling` gives; None if there are none.

    What a channel has of its own is named as the field, which stands in the config.
    """
    names = {name.lstrip("_"): name for name in config if config[name] is not None}
    by_channel = "latents_mean" in names and "latents_std" in names
    centre: Any = None if by_channel else config.get("shift_factor") or None
    spread = ""
    if by_channel and not _is_standard(config, names):
        centre, spread = names["latents_mean"], f" / {names['latents_std']}"
    elif not names.keys() & {"scaling_factor", "shift_factor"}:
        return None
    shifted, scale = f"(z - {centre})" if centre else "z", config.get("scaling_factor") or 1.0
    return shifted + ("" if scale == 1 else f" * {scale}") + spread


def _is_standard(config: Mapping[str, Any], names: Mapping[str, str]) -> bool:
    return not any(config[names["latents_mean"]]) and set(config[names["latents_std"]]) == {1}


def pooled_scaling(mean: torch.Tensor, std: torch.Tensor, shifts: bool) -> dict[str, float]:
    """One `scaling_factor`, and a `shift_factor` if `shifts`, for all channels."""
    centre = mean.mean() if shifts else mean.new_zeros(())
    scale = (std.square() + (mean - centre).square()).mean().sqrt()
    return {"scaling_factor": 1 / scale.item(), **({"shift_factor": centre.item()} if shifts else {})}


def channel_fields(mean: torch.Tensor, std: torch.Tensor) -> dict[str, list[float]]:
    """`latents_mean` and `latents_std` of each channel.

    Pipelines divide by the latter: a channel below `LEAST_SPREAD` has that, and all have 1 if all are constant.
    """
    least = LEAST_SPREAD * std.square().mean().sqrt()
    std = std.clamp_min(least) if least > 0 else torch.ones_like(std)
    return {"latents_mean": mean.tolist(), "latents_std": std.tolist()}


def channel_scaling(mean: torch.Tensor, std: torch.Tensor) -> dict[str, Any]:
    """`channel_fields`, and nothing that pipelines do beside them."""
    return {**UNSCALED, **channel_fields(mean, std)}


def channel_statistics(config: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (c,) of latents that `scaled` gives mean 0 and variance 1 in every channel."""
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        channels = config["latent_channels"]
        mean, std = [config.get("shift_factor") or 0.0] * channels, [1.0] * channels
    scale = config.get("scaling_factor") or 1.0
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64) / scale
