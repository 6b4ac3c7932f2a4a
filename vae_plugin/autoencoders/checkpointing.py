"""Gradient checkpointing of classes for which diffusers has none, or has it switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..errors import UserError


def enable_checkpointing(model: ModelMixin, blocks: Sequence[nn.Module], class_name: str) -> None:
    """Recompute activations in the backward pass.

    Args:
        model: whose class diffusers may have gradient checkpointing for.
        blocks: to recompute in a class where it has none, or has it switched off.
        class_name: for the error.

    Raises:
        UserError: where neither can be done.
    """
    if blocks:
        recompute_activations(blocks)
    elif model._supports_gradient_checkpointing:
        model.enable_gradient_checkpointing()
    else:
        raise UserError(f"diffusers has no gradient checkpointing for {class_name}: leave it out.")


def recompute_activations(blocks: Iterable[nn.Module]) -> None:
    """Let each block keep its inputs only, and compute its activations again in the backward pass.

    Nothing else about the modules changes: neither their names nor their classes, and a copy of a model recomputes its
    own blocks. Dropout draws the same numbers again, and statistics of a batch norm are counted once.
    """
    for block in blocks:
        if not isinstance(block.forward, _Recomputed):
            block.forward = _Recomputed(block)


class _Recomputed:
    """The `forward` of a block, as an object: a closure would go on calling the old block in a copy of the model."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.forward: Callable[..., Any] = block.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        norms = [module for module in self.block.modules() if isinstance(module, _BatchNorm)]
        # Around the forward pass, and around its repetition.
        contexts: dict[str, Any] = {"context_fn": lambda: (nullcontext(), _same_statistics(norms))} if norms else {}
        return checkpoint(self.forward, *args, use_reentrant=False, **contexts, **kwargs)


@contextmanager
def _same_statistics(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Undo what the code does to running statistics, which would follow a batch twice."""
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
