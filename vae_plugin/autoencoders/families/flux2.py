"""`AutoencoderKLFlux2`: FLUX.2 normalises patches of 2 x 2 latents by the statistics of a batch norm."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..decoders import with_decoder
from ..latent_diffusion import LatentDiffusion, architecture, comfyui_decoder, decoder_channels
from ..layouts import Contents, Shapes
from .patched_norm import PatchedNorm

BATCH_NORM_EPS = 1e-4  # no file says it: FLUX.2's code has this one
_IN_NETWORKS = (("encoder.quant_conv.", "quant_conv."), ("decoder.post_quant_conv.", "post_quant_conv."))


class Flux2File(LatentDiffusion):
    """FLUX.2's ae.safetensors: the names of latent diffusion, the 1x1 convolutions inside encoder and decoder.

    The decoder may have other widths than the encoder, as in full_encoder_small_decoder.safetensors.
    """

    code = "FLUX.2"
    original = re.compile(f"{LatentDiffusion.original.pattern}|(?:^|\\.)(?:encoder|decoder)\\.(?:post_)?quant_conv\\.")
    tools = "ComfyUI builds FLUX.2's architecture"

    def holds(self, shapes: Shapes) -> bool:
        """Its files have the statistics of the batch norm."""
        return "bn.running_mean" in shapes

    def config(self, contents: Contents) -> tuple[dict[str, Any], str]:
        """By the shapes. The scale of the latents is in the weights."""
        shapes = {_renamed(name, _IN_NETWORKS): shape for name, shape in contents.shapes.items()}
        fields, decoder = architecture(shapes), decoder_channels(shapes)
        widths = fields["block_out_channels"]
        patch = math.isqrt(shapes["bn.running_mean"][0] // fields["latent_channels"])
        differs = decoder != widths and len(decoder) == len(widths)  # of another depth there is none
        other = {"decoder_block_out_channels": decoder} if differs else {}
        said = f", with a decoder of other widths ({' '.join(map(str, decoder))})" if other else ""
        return {
            "_class_name": "AutoencoderKLFlux2",
            **fields,
            **other,
            "sample_size": 128 * 2 ** (len(widths) - 1),
            "use_quant_conv": "quant_conv.weight" in shapes,
            "use_post_quant_conv": "post_quant_conv.weight" in shapes,
            "batch_norm_eps": BATCH_NORM_EPS,
            "patch_size": [patch, patch],
        }, f"{contents.file} is read as the autoencoder of FLUX.2{said}."

    def to_diffusers(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """By the converter of diffusers, which expects the 1x1 convolutions outside the networks."""
        return super().to_diffusers({_renamed(name, _IN_NETWORKS): value for name, value in state.items()}, config)

    def to_original(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The inverse."""
        into = [(outside, inside) for inside, outside in _IN_NETWORKS]
        return {_renamed(name, into): value for name, value in super().to_original(state, config).items()}

    def built_by_tools(self, config: Mapping[str, Any]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
        """ComfyUI (comfy/sd.py, comfy/ldm/models/autoencoder.py), which knows the model by bn.running_mean.

        It reads the number of latent channels, and a factor of the decoder's widths, from the weights.
        """
        decoder = tuple(config.get("decoder_block_out_channels") or config["block_out_channels"])
        return {
            "in_channels": (config["in_channels"], (3,)),
            "out_channels": (config["out_channels"], (3,)),
            "block_out_channels": (tuple(config["block_out_channels"]), ((128, 256, 512, 512),)),
            "decoder_block_out_channels": (decoder, (comfyui_decoder(decoder),)),
            "layers_per_block": (config["layers_per_block"], (2,)),
            "norm_num_groups": (config["norm_num_groups"], (32,)),
            "act_fn": (config["act_fn"], ("silu", "swish")),
            "mid_block_add_attention": (config["mid_block_add_attention"], (True,)),
            "use_quant_conv": (config["use_quant_conv"], (True,)),
            "use_post_quant_conv": (config["use_post_quant_conv"], (True,)),
            "batch_norm_eps": (config["batch_norm_eps"], (BATCH_NORM_EPS,)),
            "patch_size": (tuple(config["patch_size"]), ((2, 2),)),
        }


class Flux2Adapter(PatchedNorm):
    """An `AutoencoderKL` whose pipelines read `bn.running_mean` and `bn.running_var`."""

    class_name = "AutoencoderKLFlux2"
    student_class = "AutoencoderTinyFlux2"
    single_file = Flux2File()

    def with_decoder(self, widths: Sequence[int]) -> Flux2Adapter:
        """The class has a field for them."""
        return Flux2Adapter(with_decoder(self.model, widths))


def _renamed(name: str, starts: Sequence[tuple[str, str]]) -> str:
    for old, new in starts:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
