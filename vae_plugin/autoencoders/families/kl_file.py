"""The single files of `AutoencoderKL`, and how published models scale their latents, which no file says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..kl_model import MEAN_IS_OUTPUT
from ..latent_diffusion import FIRST, LatentDiffusion, architecture, comfyui_decoder, decoder_channels
from ..layouts import Contents, Shapes

TAKEN_FOR_OTHERS = (32, 64)  # latent channels by which ComfyUI recognises FLUX.2's and HunyuanImage's autoencoders


@dataclass(frozen=True)
class Scale:
    """How the pipelines of a published model scale its latents."""

    name: str
    scaling_factor: float
    shift_factor: float | None = None
    force_upcast: bool = False


SD = Scale("Stable Diffusion 1 and 2", 0.18215, force_upcast=True)
SDXL = Scale("Stable Diffusion XL", 0.13025, force_upcast=True)
SDXL_FP16 = Scale("Stable Diffusion XL, for float16", 0.13025)
SD3 = Scale("Stable Diffusion 3", 1.5305, 0.0609, force_upcast=True)
FLUX = Scale("FLUX.1", 0.3611, 0.1159, force_upcast=True)

PUBLISHED = {  # bytes and SHA-256 of files that hold an autoencoder alone
    (334641190, "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75"): SD,  # vae-ft-mse-840000-ema-pruned
    (334641164, "63aeecb90ff7bc1c115395962d3e803571385b61938377bc7089b36e81e92e2e"): SDXL,  # sdxl_vae
    (334641162, "235745af8d86bf4a4c1b5b4f529868b37019a10f7c0b2e79ad0abca3a22bc6e1"): SDXL_FP16,  # sdxl-vae-fp16-fix
    (335304388, "afc8e28272cd15db3919bacdb6918ce9c1ed22e96cb12c4d5ed0fba823529e38"): FLUX,  # ae
}
DENOISERS = (  # a name in the rest of a whole checkpoint -> whose it is; the first that occurs
    ("joint_blocks.", SD3),
    ("double_blocks.", FLUX),
    ("conditioner.embedders.", SDXL),
    ("cond_stage_model.", SD),
)
USUAL = {4: SD, 16: FLUX}  # by latent channels


class StableDiffusionFile(LatentDiffusion):
    """A file without the scale of the latents.

    It is that of the published model with these very bytes, or of the denoiser in the same file. Otherwise it is
    guessed.
    """

    tools = "ComfyUI and A1111 build Stable Diffusion's architecture"

    def holds(self, shapes: Shapes) -> bool:
        """FLUX.2's have the statistics of its batch norm, and those of videos convolutions of another dimension."""
        return "bn.running_mean" not in shapes and len(shapes[FIRST]) == 4

    def config(self, contents: Contents) -> tuple[dict[str, Any], str]:
        """The architecture by the shapes, and a sentence that says whose scale it has."""
        file, shapes = contents.file, contents.shapes
        fields = architecture(shapes)
        named = (scale for word, scale in DENOISERS if any(word in name for name in contents.names))
        known = _published(file) or next(named, None)
        scale = known or USUAL.get(fields["latent_channels"]) or Scale("a new model", 1.0)
        if known is not None:
            said = f"{file} is read as the autoencoder of {known.name}, with scaling_factor {known.scaling_factor}."
        else:
            other = {SD: SDXL, FLUX: SD3}.get(scale)
            also = "" if other is None else f" (that of {other.name} is {other.scaling_factor})"
            said = (
                f"{file} does not say how its latents are scaled: scaling_factor {scale.scaling_factor} is a guess, as "
                f"of {scale.name}{also}. Give its config.json (--model_config) if that is wrong."
            )
        return {
            "_class_name": "AutoencoderKL",
            **fields,
            "sample_size": 32 * 2 ** (len(fields["block_out_channels"]) - 1),
            "use_quant_conv": "quant_conv.weight" in shapes,
            "use_post_quant_conv": "post_quant_conv.weight" in shapes,
            "scaling_factor": scale.scaling_factor,
            "shift_factor": scale.shift_factor,
            "force_upcast": scale.force_upcast,
        }, said

    def built_by_tools(self, config: Mapping[str, Any]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
        """ComfyUI (comfy/sd.py) and A1111, which follows the config of its checkpoint.

        ComfyUI reads the number of latent channels from the weights, omits missing 1x1 convolutions, and accepts the
        three levels of the x4 upscaler.
        """
        latents = config["latent_channels"]
        return {
            "in_channels": (config["in_channels"], (3,)),
            "out_channels": (config["out_channels"], (3,)),
            "block_out_channels": (tuple(config["block_out_channels"]), ((128, 256, 512, 512), (128, 256, 512))),
            "layers_per_block": (config["layers_per_block"], (2,)),
            "norm_num_groups": (config["norm_num_groups"], (32,)),
            "latent_channels": (latents, (4, 16) if latents in TAKEN_FOR_OTHERS else (latents,)),
            "act_fn": (config["act_fn"], ("silu", "swish")),
            "mid_block_add_attention": (config["mid_block_add_attention"], (True,)),
            "use_post_quant_conv": (config["use_post_quant_conv"], (config["use_quant_conv"],)),
        }


class OtherDecoderFile(StableDiffusionFile):
    """That of an `AutoencoderVAE` whose decoder has other widths, which `AutoencoderKL` cannot have.

    What `AutoencoderKL` can be is written as that.
    """

    tools = "ComfyUI builds Stable Diffusion's architecture"

    def holds(self, shapes: Shapes) -> bool:
        """Where the decoder has as many levels as the encoder, and others."""
        try:
            encoder, decoder = architecture(shapes)["block_out_channels"], decoder_channels(shapes)
        except (KeyError, IndexError, ValueError):
            return False
        return super().holds(shapes) and encoder != decoder and len(encoder) == len(decoder)

    def config(self, contents: Contents) -> tuple[dict[str, Any], str]:
        """As of an `AutoencoderKL`."""
        fields, said = super().config(contents)
        del fields["down_block_types"], fields["up_block_types"]
        return {
            **fields,
            "_class_name": "AutoencoderVAE",
            "decoder_block_out_channels": decoder_channels(contents.shapes),
            "shift_factor": fields["shift_factor"] or 0.0,
            "sigma": 1.0,  # half the squared error; no weights
        }, said

    def to_diffusers(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """By the converter of diffusers, which counts levels by a field that is None here."""
        levels = (None,) * len(config["block_out_channels"])
        return super().to_diffusers(state, {**config, "down_block_types": levels, "up_block_types": levels})

    def refusal(self, config: Mapping[str, Any]) -> str | None:
        """Only a network of the same kind, whose output is the image."""
        fits = config["network"] == "conv" and config["likelihood"] in MEAN_IS_OUTPUT
        widths = tuple(config["decoder_block_out_channels"] or config["block_out_channels"])
        return None if fits and widths != tuple(config["block_out_channels"]) else "is no AutoencoderKL"

    def built_by_tools(self, config: Mapping[str, Any]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
        """ComfyUI, which reads a factor of the decoder's widths from the weights."""
        decoder = tuple(config["decoder_block_out_channels"])
        return {**super().built_by_tools(config), "decoder_block_out_channels": (decoder, (comfyui_decoder(decoder),))}


def _published(file: Path) -> Scale | None:
    size = file.stat().st_size
    if not any(size == known for known, _ in PUBLISHED):
        return None
    with open(file, "rb") as opened:
        return PUBLISHED.get((size, hashlib.file_digest(opened, "sha256").hexdigest()))
