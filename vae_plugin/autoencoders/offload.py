"""What diffusers leaves out when it offloads a model to disk as it loads."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def restore_buffers(model: nn.Module) -> None:
    """Give the buffers of modules that accelerate offloads the values in the weights.

    Buffers stay in memory, and diffusers leaves those of modules on "disk" as the constructor made them: random codes,
    and the sigma of a new model.

    Args:
        model: as loaded with a `device_map`.
    """
    for module in model.modules():
        weights = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
        if weights is None:
            continue
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                buffer.copy_(weights[name])
