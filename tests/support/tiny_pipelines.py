"""Diffusion pipelines small enough for a test, around any autoencoder: random denoisers, no files, no text encoders.

Every `build_...(vae)` reads `latent_channels` and `block_out_channels` from the autoencoder's config and returns a
`TinyPipeline`. Text comes as random embeddings, so that there is neither tokenizer nor text encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

LATENT_SIDE = 8
TEXT_WIDTH = 8
TEXT_LENGTH = 4

Call = Callable[[int], dict[str, Any]]
Pipeline = type[diffusers.DiffusionPipeline]
VAE = torch.nn.Module


@dataclass(frozen=True)
class TinyPipeline:
    """A pipeline with the arguments of its call: 2 denoising steps at the smallest size.

    Attributes:
        pipe: the pipeline of diffusers.
        side: height and width of its images in pixels.
        arguments: what it is called with.
    """

    pipe: diffusers.DiffusionPipeline
    side: int
    arguments: dict[str, Any]

    def __call__(self, seed: int = 0, output_type: str = "np") -> Any:
        """Images of one call: (1, side, side, channels) in [0, 1] for "np", else as the pipeline gives them."""
        self.pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(seed)
        return self.pipe(**self.arguments, generator=generator, output_type=output_type).images


def picture(side: int) -> Image.Image:
    """The random RGB picture that image-to-image and inpaint pipelines are given."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def mask(side: int) -> Image.Image:
    """White, which is to be painted, on the right half."""
    image = Image.new("L", (side, side))
    image.paste(255, (side // 2, 0, side, side))
    return image


def _side(vae: VAE) -> int:
    return LATENT_SIDE * 2 ** (len(vae.config.block_out_channels) - 1)


def _random(cls: type[torch.nn.Module], **config: Any) -> Any:
    torch.manual_seed(0)
    return cls(**config).eval()


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _channels(vae: VAE, inputs: int = 1, outputs: int = 1) -> dict[str, int]:
    channels = vae.config.latent_channels
    return {"in_channels": inputs * channels, "out_channels": outputs * channels}


NO_TEXT = dict.fromkeys(("text_encoder", "tokenizer"))
NO_TEXTS = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
PROMPT = {"prompt_embeds": _normal(1, TEXT_LENGTH, TEXT_WIDTH), "guidance_scale": 1.0}
POOLED_PROMPT = {"pooled_prompt_embeds": _normal(1, TEXT_WIDTH), **PROMPT}
MASKED_PROMPT = {"prompt_attention_mask": torch.ones(1, TEXT_LENGTH), "negative_prompt": None, **PROMPT}


# What the call of each kind takes, by the side of the image. Image-to-image denoises over the last 2 of 4 steps.


def _size(side: int) -> dict[str, Any]:
    return {"height": side, "width": side}


def _image(side: int) -> dict[str, Any]:
    return {"image": picture(side), "strength": 0.5, "num_inference_steps": 4}


def _sized_image(side: int) -> dict[str, Any]:
    return _image(side) | _size(side)


def _masked_image(side: int) -> dict[str, Any]:
    return _sized_image(side) | {"mask_image": mask(side)}


def _tiny(pipe: diffusers.DiffusionPipeline, side: int, call: Call = lambda side: {}, **arguments: Any) -> TinyPipeline:
    return TinyPipeline(pipe, side, {"num_inference_steps": 2, **arguments, **call(side)})


# --- U-Nets ---------------------------------------------------------------------------------------------------------

UNET = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 2}


def _ddim() -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)


def _unet(vae: VAE, **config: Any) -> diffusers.UNet2DConditionModel:
    return _random(
        diffusers.UNet2DConditionModel,
        **_channels(vae),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        sample_size=LATENT_SIDE,
        **UNET,
        **config,
    )


def _sd(cls: Pipeline, call: Call, vae: VAE, scheduler: Any = _ddim, **unet: Any) -> TinyPipeline:
    pipe = cls(
        vae=vae,
        unet=_unet(vae, **unet),
        scheduler=scheduler(),
        requires_safety_checker=False,
        **dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor")),
    )
    return _tiny(pipe, _side(vae), call, **PROMPT)


build_sd = partial(_sd, diffusers.StableDiffusionPipeline, _size)
build_sd_img2img = partial(_sd, diffusers.StableDiffusionImg2ImgPipeline, _image)
build_sd_inpaint = partial(_sd, diffusers.StableDiffusionInpaintPipeline, _masked_image)
build_lcm = partial(
    _sd, diffusers.LatentConsistencyModelPipeline, _size, scheduler=diffusers.LCMScheduler, time_cond_proj_dim=8
)


def _sdxl(cls: Pipeline, call: Call, vae: VAE) -> TinyPipeline:
    unet = _unet(
        vae,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 4,  # the pooled text, and six numbers about the size
    )
    pipe = cls(vae=vae, unet=unet, scheduler=_ddim(), add_watermarker=False, **NO_TEXTS)
    return _tiny(pipe, _side(vae), call, **POOLED_PROMPT)


build_sdxl = partial(_sdxl, diffusers.StableDiffusionXLPipeline, _size)
build_sdxl_img2img = partial(_sdxl, diffusers.StableDiffusionXLImg2ImgPipeline, _image)
build_sdxl_inpaint = partial(_sdxl, diffusers.StableDiffusionXLInpaintPipeline, _masked_image)


def _unconditional_unet(**channels: int) -> diffusers.UNet2DModel:
    return _random(
        diffusers.UNet2DModel,
        **channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        sample_size=LATENT_SIDE,
        **UNET,
    )


def build_ldm(vae: VAE) -> TinyPipeline:
    pipe = diffusers.LDMPipeline(vqvae=vae, unet=_unconditional_unet(**_channels(vae)), scheduler=_ddim())
    return _tiny(pipe, _side(vae))


def build_ldm_superresolution(vae: VAE) -> TinyPipeline:
    """Needs 3 latent channels: the pipeline takes half of the U-Net's for latents, and the other for the picture."""
    unet = _unconditional_unet(**_channels(vae, inputs=2))
    pipe = diffusers.LDMSuperResolutionPipeline(vqvae=vae, unet=unet, scheduler=_ddim())
    return _tiny(pipe, _side(vae), image=_normal(1, 3, LATENT_SIDE, LATENT_SIDE).clamp(-1, 1))


# --- transformers ---------------------------------------------------------------------------------------------------

TRANSFORMER = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}


def _sd3(cls: Pipeline, call: Call, vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.SD3Transformer2DModel,
        sample_size=LATENT_SIDE,
        patch_size=2,
        **_channels(vae),
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        caption_projection_dim=16,
        pos_embed_max_size=LATENT_SIDE,
        **TRANSFORMER,
    )
    text = {"text_encoder_3": None, "tokenizer_3": None, **NO_TEXTS}
    pipe = cls(vae=vae, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **text)
    return _tiny(pipe, _side(vae), call, **POOLED_PROMPT)


build_sd3 = partial(_sd3, diffusers.StableDiffusion3Pipeline, _size)
build_sd3_img2img = partial(_sd3, diffusers.StableDiffusion3Img2ImgPipeline, _sized_image)
# Needs 16 latent channels: the pipeline refuses a transformer with another number of them.
build_sd3_inpaint = partial(_sd3, diffusers.StableDiffusion3InpaintPipeline, _masked_image)


def _flux(cls: Pipeline, call: Call, vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.FluxTransformer2DModel,
        **_channels(vae, 4, 4),  # 2x2 latents are one token
        num_single_layers=1,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        axes_dims_rope=(2, 2, 4),
        **TRANSFORMER,
    )
    pipe = cls(vae=vae, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **NO_TEXTS)
    return _tiny(pipe, _side(vae), call, **POOLED_PROMPT)


build_flux = partial(_flux, diffusers.FluxPipeline, _size)
build_flux_img2img = partial(_flux, diffusers.FluxImg2ImgPipeline, _sized_image)
build_flux_inpaint = partial(_flux, diffusers.FluxInpaintPipeline, _masked_image)


def build_dit(vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.DiTTransformer2DModel,
        sample_size=LATENT_SIDE,
        patch_size=2,
        **_channels(vae, outputs=2),
        **TRANSFORMER,
    )
    pipe = diffusers.DiTPipeline(transformer=transformer, vae=vae, scheduler=_ddim())
    return _tiny(pipe, _side(vae), class_labels=[1])


def build_pixart(vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.PixArtTransformer2DModel,
        sample_size=LATENT_SIDE,
        patch_size=2,
        **_channels(vae, outputs=2),
        cross_attention_dim=16,
        caption_channels=TEXT_WIDTH,
        **TRANSFORMER,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler()
    pipe = diffusers.PixArtAlphaPipeline(vae=vae, transformer=transformer, scheduler=scheduler, **NO_TEXT)
    return _tiny(pipe, _side(vae), _size, use_resolution_binning=False, **MASKED_PROMPT)


def build_sana(vae: VAE) -> TinyPipeline:
    side = max(32, _side(vae))  # the pipeline takes multiples of 32
    transformer = _random(
        diffusers.SanaTransformer2DModel,
        sample_size=LATENT_SIDE * side // _side(vae),
        **_channels(vae),
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=TEXT_WIDTH,
        **TRANSFORMER,
    )
    pipe = diffusers.SanaPipeline(
        vae=vae, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **NO_TEXT
    )
    return _tiny(pipe, side, _size, use_resolution_binning=False, **MASKED_PROMPT)


def build_z_image(vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.ZImageTransformer2DModel,
        in_channels=vae.config.latent_channels,
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        axes_dims=[2, 2, 4],
        axes_lens=[128, 16, 16],
    )
    torch.nn.init.zeros_(transformer.x_pad_token)  # the class leaves these two uninitialised
    torch.nn.init.zeros_(transformer.cap_pad_token)
    pipe = diffusers.ZImagePipeline(
        vae=vae, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **NO_TEXT
    )
    return _tiny(pipe, _side(vae), _size, prompt_embeds=[_normal(TEXT_LENGTH, TEXT_WIDTH)], guidance_scale=0.0)
