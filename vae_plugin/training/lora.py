"""Low-rank changes of weights (LoRA, Hu et al. 2021), by peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..autoencoders.padding import use_recorded_padding
from ..errors import UserError

ADAPTER = "vae_plugin"


def add_lora(model: ModelMixin, rank: int, alpha: float | None) -> None:
    """Freeze the weights, and train low-rank changes of every convolution and linear layer that was to be trained.

    The second matrix of each begins at 0: the model begins as it was.

    Args:
        model: with gradients where they are wanted.
        rank: of the changes.
        alpha: their scale is alpha / rank. Default: rank.

    Raises:
        UserError: if peft is not installed, or the class does not support adapters.
    """
    if not hasattr(model, "add_adapter"):
        raise UserError(
            f"--lora_rank: diffusers has no adapters for {type(model).__name__}: leave it out, and train the weights "
            "themselves (with --train decoder, those of the decoder only)."
        )
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise UserError("--lora_rank needs peft: pip install 'vae-plugin[lora]'.") from error
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.requires_grad
    ]
    model.requires_grad_(False)
    scale: Any = rank if alpha is None else alpha  # peft declares an integer, and takes any number
    config = LoraConfig(r=rank, lora_alpha=scale, target_modules=names, init_lora_weights=True)
    model.add_adapter(config, adapter_name=ADAPTER)
    use_recorded_padding(model)  # peft's own convolutions would pad by zeros, and could not be merged exactly


def has_lora(model: ModelMixin) -> bool:
    """Whether `add_lora` was called and `merge_lora` was not."""
    return ADAPTER in getattr(model, "peft_config", {})


def save_lora(model: ModelMixin, folder: Path) -> None:
    """Write the changes as FOLDER/pytorch_lora_weights.safetensors; without changes nothing happens."""
    if has_lora(model):
        model.save_lora_adapter(folder, adapter_name=ADAPTER, safe_serialization=True)


def merge_lora(model: ModelMixin) -> None:
    """Add the changes to the weights, in place: the model is of its class again and needs no peft.

    Args:
        model: any model; without changes nothing happens.
    """
    if not has_lora(model):
        return
    from diffusers.utils.peft_utils import recurse_remove_peft_layers
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge(adapter_names=[ADAPTER])
    recurse_remove_peft_layers(model)
    del model.peft_config
    model._hf_peft_config_loaded = False
    model.requires_grad_(False)
