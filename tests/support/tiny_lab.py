"""Labs with small models, at a pace that does not depend on the machine, and their messages to the front end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

from support import tiny_diffusers
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.widgets import LatentLab, codec
from vae_plugin.widgets.worker import Worker

CONV = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16}
CODES = {**CONV, "num_vq_embeddings": 16}
MODELS = {
    "conv": (AutoencoderVAE, CONV),
    "mlp": (AutoencoderVAE, {"network": "mlp", "hidden_sizes": (32,), "sample_size": 16, "latent_channels": 6}),
    "ema": (AutoencoderVQVAE, CODES),
    "rvq": (AutoencoderVQVAE, {**CODES, "quantizer_type": "rvq", "num_quantizers": 3}),
    "fsq": (AutoencoderVQVAE, {**CONV, "quantizer_type": "fsq", "fsq_levels": (3, 4, 5, 2)}),
    **{cls.__name__: (cls, config) for cls, config in tiny_diffusers.CONFIGS.items()},
}
QUIET = 0.004  # seconds that a lab waits at most for quiet
LIMIT = 300  # seconds until a test gives up; never reached, however busy the machine
_settle = Worker.settle
_ids = count(1)


def tiny(name: str, seed: int = 0, **changes: Any) -> Any:
    """Make the model with this name, in evaluation mode, with latents that differ between images."""
    cls, config = MODELS[name]
    torch.manual_seed(seed)
    model = cls(**{**config, **changes}).eval()
    if isinstance(model, AutoencoderVQVAE) and model.quant_conv is not None:
        with torch.no_grad():
            model.quant_conv.weight.mul_(3)
    return model


def _soon(self: Worker, work: Any, seconds: float) -> None:
    _settle(self, work, min(seconds, QUIET))


def _steady_clock() -> SimpleNamespace:
    """A clock by which every decode takes one millisecond, so that no decoder seems slow on a busy machine."""
    ticks = count()
    return SimpleNamespace(perf_counter=lambda: next(ticks) / 1000)


@contextmanager
def open_lab(model: Any = None, images: Any = None, **options: Any) -> Iterator[LatentLab]:
    """Open a lab and wait until its images are encoded; close it in the end."""
    if isinstance(model, str) and model in MODELS:
        model = tiny(model)
    with mock.patch.object(Worker, "settle", _soon), mock.patch.object(codec, "time", _steady_clock()):
        lab = LatentLab(model, images, **{"max_images": 12, "resolution": None if model is None else 16, **options})
        try:
            assert lab.wait(LIMIT)
            yield lab
        finally:
            lab.close()


def listen(lab: LatentLab) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Collect the messages that the lab sends from now on, and the errors that it keeps."""
    heard: list[tuple[dict[str, Any], list[bytes]]] = []
    for problem in lab._problems:
        lab._outlet.seen(problem["number"])

    def kept(change: Any) -> None:
        known = {problem["number"] for problem in change["old"] or ()}
        heard.extend(({"kind": "kept", **problem}, []) for problem in change["new"] if problem["number"] not in known)

    lab.unobserve_all("_problems")
    lab.observe(kept, "_problems")
    lab.send = lambda content, buffers=None: heard.append((content, list(buffers or ())))
    return heard


def ask(lab: LatentLab, do: str, buffers: Any = (), **content: Any) -> int:
    """Send a request as the front end does; returns its id."""
    number = next(_ids)
    lab._panel.receive({"do": do, "view": "v", "id": number, **content}, buffers)
    return number


def kinds(heard: list[tuple[dict[str, Any], list[bytes]]], number: int | None = None) -> list[str]:
    """Kinds of the messages: of all, or of the answers to one request."""
    return [content["kind"] for content, _ in heard if number is None or content.get("id") == number]


def errors(heard: list[tuple[dict[str, Any], list[bytes]]]) -> list[str]:
    """Texts of the errors, those that answer a request and those that were kept."""
    return [content["text"] for content, _ in heard if content["kind"] in ("error", "kept")]


def levels(images: torch.Tensor) -> np.ndarray:
    """Images (C, H, W) in [-1, 1] as 8-bit levels (H, W, C), in plain numpy."""
    values = np.clip(np.rint((images.detach().double().numpy() + 1) * 127.5), 0, 255)
    return values.transpose(1, 2, 0).astype(int)


def shown(lab: LatentLab) -> np.ndarray:
    """The lab's picture as 8-bit levels (H, W, 3)."""
    return np.asarray(lab.image.convert("RGB")).astype(int)


def one_sentence(error: Any) -> bool:
    """Whether a message is one line of several words."""
    text = str(error)
    return "\n" not in text and len(text.split()) > 3
