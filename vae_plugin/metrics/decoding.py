"""What one decoder costs beside another for the same latents: time, as a ratio, and memory."""

from __future__ import annotations

import platform
import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..autoencoders import Adapter, evaluation_mode

LEAST, MOST = 5, 25  # measurements
ENOUGH_SECONDS = 5.0  # of measuring, after the least number
MEBIBYTE = 2**20


@torch.no_grad()
def compare_decoders(adapter: Adapter, base: Adapter, resolution: int) -> dict[str, float]:
    """Decode the same random latents of one image by both models, in turn, on the device of the first.

    Args:
        adapter: of the model.
        base: of a model with the same latents; it comes back to the device where it was.
        resolution: side of the image in pixels.

    Returns:
        "decode_time_ratio", the time of the model divided by that of the base: the median over pairs measured one right
        after the other, because times of two runs would tell of the machine; "decode_time_low" and "decode_time_high",
        between which the middle half of the pairs lies; "decode_pairs", how many there are;
        "decoder_parameters", weights of the decoder; "decode_memory_mib", those weights and the most memory that is
        taken beside them while an image is decoded (where the device tells). With "base_" the same of the base model.
    """
    device, dtype = adapter.model.device, adapter.model.dtype
    z = torch.randn(adapter.latent_shape(1, resolution, resolution), generator=torch.Generator().manual_seed(0))
    z = z.to(device, dtype)
    sides = {"": adapter, "base_": base}
    with evaluation_mode(adapter.model), evaluation_mode(base.model), lent(base.model, device, dtype):
        result: dict[str, float] = {}
        for prefix, side in sides.items():
            weights = list(side.model.decoder.parameters())
            result[f"{prefix}decoder_parameters"] = sum(weight.numel() for weight in weights)
            side.decode(z)  # what is only done once is not counted
            peak = peak_memory(lambda side=side: side.decode(z), device)  # type: ignore[misc]
            if peak is not None:
                held = sum(weight.numel() * weight.element_size() for weight in weights)
                result[f"{prefix}decode_memory_mib"] = (held + peak) / MEBIBYTE
        ratios = list(_ratios(lambda: adapter.decode(z), lambda: base.decode(z), device))
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    times = {"decode_time_ratio": middle, "decode_time_low": low, "decode_time_high": high}
    return {**result, **times, "decode_pairs": len(ratios)}


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Most bytes of tensors that `work` holds at once beside those that are there before; None if it is not known."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    with TensorsHeld() as held:
        work()
    return held.most


class TensorsHeld(TorchDispatchMode):
    """Counts the bytes of tensors that operations make, until nobody holds them.

    Attributes:
        now: bytes held at the moment.
        most: the most that were held at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs or {}))}
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            key, size = storage._cdata, storage.nbytes()
            if key not in given and key not in self._known:  # no view, and not changed in place
                self._known.add(key)
                self.now += size
                weakref.finalize(storage, self._freed, key, size)
        self.most = max(self.most, self.now)
        return made

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _storages(value: Any) -> Iterator[torch.UntypedStorage]:
    if isinstance(value, torch.Tensor):
        yield value.untyped_storage()
    elif isinstance(value, dict):
        yield from _storages(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _storages(item)


@contextmanager
def lent(model: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> Iterator[None]:
    """A model on another device, in another precision, for the time of the block."""
    where = next(model.parameters())
    before = where.device, where.dtype
    nn.Module.to(model, device, dtype or where.dtype)
    try:
        yield
    finally:
        nn.Module.to(model, *before)


def device_name(device: torch.device) -> str:
    """What a device is called, such as "NVIDIA H100" or "x86_64 CPU, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
    return device.type


def _ratios(one: Callable[[], object], other: Callable[[], object], device: torch.device) -> Iterator[float]:
    for number in measurements():
        pair = (one, other) if number % 2 else (other, one)
        seconds = {work: seconds_of(work, device) for work in pair}
        yield seconds[one] / seconds[other]


def measurements() -> Iterator[int]:
    """Numbers of the measurements to make, from 0: 5 at least, then up to 25 within 5 seconds."""
    begun = time.perf_counter()
    for number in range(MOST):
        if number >= LEAST and time.perf_counter() - begun > ENOUGH_SECONDS:
            return
        yield number


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that work takes, until its device is done with it."""
    _synchronize(device)
    begun = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - begun


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
