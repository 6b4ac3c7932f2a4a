"""What of a model is trained: all of it, its encoder, its decoder, or small matrices beside its weights (LoRA)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderTiny
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..autoencoders.interface import OURS
from ..errors import UserError

PARTS = ("all", "decoder", "encoder")
LATENT_SIDE = ("encoder", "quant_conv", "quantizer", "bn")  # decide what the latents are
IMAGE_SIDE = ("decoder", "post_quant_conv", "likelihood")
ADAPTER = "vae_plugin"


def select_part(model: ModelMixin, part: str, learn_likelihood: bool = True) -> None:
    """Leave a gradient, and training mode, to one part of the model only.

    Args:
        model: as it was opened.
        part: "decoder" locks the latent space: nothing before the latents changes, nor do a codebook's statistics.
            "encoder" trains what gives the latents, for the decoder (and the codebook) as it is.
        learn_likelihood: whether the scale of p(x|z) is part of the objective.
    """
    model.train()
    frozen = {"all": (), "decoder": LATENT_SIDE, "encoder": (*IMAGE_SIDE, "quantizer")}[part]
    for name in (*LATENT_SIDE, *IMAGE_SIDE):
        child = getattr(model, name, None)
        if name in frozen and isinstance(child, nn.Module):
            child.requires_grad_(False).eval()
    if isinstance(model, OURS) and not learn_likelihood:
        model.likelihood.requires_grad_(False)


def checkpoint_activations(model: ModelMixin) -> None:
    """Recompute activations in the backward pass.

    Raises:
        UserError: if the class has nothing to recompute.
    """
    if model.config.get("network") == "mlp":
        raise UserError("--gradient_checkpointing has nothing to recompute in an mlp: leave it out.")
    if not model._supports_gradient_checkpointing or isinstance(model, AsymmetricAutoencoderKL):
        raise UserError(f"diffusers has no gradient checkpointing for {type(model).__name__}: leave it out.")
    model.enable_gradient_checkpointing()
    if isinstance(model, AutoencoderTiny):
        # With it, diffusers' `EncoderTiny` forgets to scale images from [-1, 1] to [0, 1].
        model.encoder.gradient_checkpointing = False


def compile_parts(module: nn.Module, but: nn.Module | None = None) -> None:
    """Compile a network in place, its weights keep their names.

    Args:
        module: the network.
        but: a layer to leave out. Where the adaptive weight is measured the gradient of that layer alone is needed;
            of a network that is compiled as a whole it costs the whole backward pass.
    """
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)) or any(part is but for part in module.modules()):
        for child in module.children():
            compile_parts(child, but)
    else:
        module.compile()


def add_lora(model: ModelMixin, rank: int, alpha: float | None) -> None:
    """Freeze the weights and train low-rank changes of every convolution and linear layer that was to be trained.

    Hu et al. 2021, by peft. The second matrix of each begins at 0: the model begins as it was.

    Args:
        model: after `select_part`.
        rank: of the changes.
        alpha: their scale is alpha / rank; default: rank.

    Raises:
        UserError: if peft is not installed, or the class does not support adapters.
    """
    if not hasattr(model, "add_adapter"):
        raise UserError(
            f"--lora_rank: diffusers has no adapters for {type(model).__name__}, only for AutoencoderKL (and "
            "AutoencoderVAE): train its weights, or --train decoder."
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
    config = LoraConfig(
        r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=names, init_lora_weights=True
    )
    model.add_adapter(config, adapter_name=ADAPTER)


def has_lora(model: ModelMixin) -> bool:
    """Whether `add_lora` was called and `merge_lora` was not."""
    return ADAPTER in getattr(model, "peft_config", {})


def merge_lora(model: ModelMixin, folder: Path | None = None) -> None:
    """Add the changes to the weights, in place: the model is of its class again and needs no peft.

    Args:
        model: anything; without changes nothing happens.
        folder: write the changes there too, as pytorch_lora_weights.safetensors.
    """
    if not has_lora(model):
        return
    from diffusers.utils.peft_utils import recurse_remove_peft_layers
    from peft.tuners.tuners_utils import BaseTunerLayer

    if folder is not None:
        model.save_lora_adapter(folder, adapter_name=ADAPTER, safe_serialization=True)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge(adapter_names=[ADAPTER])
    recurse_remove_peft_layers(model)
    del model.peft_config
    model._hf_peft_config_loaded = False
    model.requires_grad_(False)


def trained_parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters with a gradient, each once.

    Raises:
        UserError: if there are none.
    """
    found = [p for p in torch.nn.ModuleList(modules).parameters() if p.requires_grad]
    if not found:
        raise UserError("there is nothing to train: no part of the model is left that has a gradient.")
    return found
