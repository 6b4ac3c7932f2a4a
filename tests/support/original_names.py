"""The names of weights in the code that models were published with, written without the package."""

import re


def names_of_stable_diffusion(model):
    """The state of an `AutoencoderKL` or its kin under the names of CompVis' code, as single files have them."""
    levels = len(model.config.block_out_channels)
    renamed = {}
    for name, value in model.state_dict().items():
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            name = name.replace("to_out.0", "proj_out").replace("to_", "")
            value = value[:, :, None, None] if name.endswith("weight") and value.ndim == 2 else value
        renamed[name] = value.contiguous()
    return renamed


def names_of_flux2(model):
    """Those of an `AutoencoderKLFlux2`, whose code has the 1x1 convolutions inside the networks."""
    renamed = names_of_stable_diffusion(model)
    for part, name in (("encoder", "quant_conv"), ("decoder", "post_quant_conv")):
        for kind in ("weight", "bias"):
            renamed[f"{part}.{name}.{kind}"] = renamed.pop(f"{name}.{kind}")
    return renamed
