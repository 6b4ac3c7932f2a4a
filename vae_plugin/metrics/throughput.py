"""How many images a model encodes and decodes per second, and the memory that takes."""

from __future__ import annotations

import statistics

import torch

from ..autoencoders import Adapter, evaluation_mode
from .decoding import MEBIBYTE, measurements, peak_memory, seconds_of

BATCH = 4  # images at once


@torch.no_grad()
def throughput(adapter: Adapter, height: int, width: int, batch_size: int = BATCH) -> dict[str, float]:
    """Encode and decode random images of one size, on the model's device and in its precision.

    Args:
        adapter: of the model.
        height: of the images in pixels.
        width: likewise.
        batch_size: images at once.

    Returns:
        "encode_images_per_second" and "decode_images_per_second", medians of 5 to 25 measurements after one that does
        not count; "encode_memory_mib" and "decode_memory_mib", all weights of the model and the most memory that is
        taken beside them at once (where the device tells); "throughput_batch_size". Times tell of the machine too:
        compare those of one run.
    """
    device, dtype = adapter.model.device, adapter.model.dtype
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(batch_size, adapter.in_channels, height, width, generator=generator) * 2 - 1).to(device, dtype)
    weights = sum(weight.numel() * weight.element_size() for weight in adapter.model.parameters())
    result: dict[str, float] = {"throughput_batch_size": batch_size}
    with evaluation_mode(adapter.model):
        z = adapter.posterior(x).mode()
        for name, work in {"encode": lambda: adapter.posterior(x), "decode": lambda: adapter.decode(z)}.items():
            peak = peak_memory(work, device)
            times = [seconds_of(work, device) for _ in measurements()]
            result[f"{name}_images_per_second"] = batch_size / statistics.median(times)
            if peak is not None:
                result[f"{name}_memory_mib"] = (weights + peak) / MEBIBYTE
    return result
