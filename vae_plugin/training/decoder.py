"""What a run with a new decoder tells of it beside the one of the base model."""

from __future__ import annotations

from typing import Any

import torch

from ..autoencoders import Adapter
from ..metrics.decoding import compare_decoders, device_name


def decoder_facts(adapter: Adapter, base: Adapter, device: torch.device) -> dict[str, Any]:
    """`RunRecord.decoder`.

    Args:
        adapter: of the model.
        base: of the model that has the latents.
        device: that both are measured on.
    """
    return {
        "block_out_channels": list(adapter.decoder_widths),
        "was": list(base.decoder_widths),
        "device": device_name(device),
    }


def decoder_measures(adapter: Adapter, base: Adapter, resolution: int) -> dict[str, float]:
    """`compare_decoders`, as the table of the card shows it: the time of the base model is 1."""
    measured = compare_decoders(adapter, base, resolution)
    return {**measured, "base_decode_time_ratio": 1.0}
