"""The parts of an autoencoder that can be trained alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

PARTS = ("all", "decoder", "encoder")
LATENT_SIDE = ("encoder", "quant_conv", "quantizer", "bn")  # the modules that decide what the latents are
IMAGE_SIDE = ("decoder", "post_quant_conv", "likelihood")


def select_part(model: nn.Module, part: str) -> None:
    """Leave gradients, and training mode, to one of `PARTS`."""
    model.train()
    frozen = {"all": (), "decoder": LATENT_SIDE, "encoder": (*IMAGE_SIDE, "quantizer")}[part]
    for name in frozen:
        child = getattr(model, name, None)
        if isinstance(child, nn.Module):
            child.requires_grad_(False).eval()


@contextmanager
def without_decoder(model: nn.Module) -> Iterator[None]:
    """Let the model be without its decoder for a while, for a copy of what computes the latents."""
    decoder = model._modules["decoder"]
    model._modules["decoder"] = None
    try:
        yield
    finally:
        model._modules["decoder"] = decoder
