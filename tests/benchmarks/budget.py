"""What a step of training an autoencoder costs: weights, operations and kept activations, counted without computing.

    python tests/benchmarks/budget.py --model_config CONFIG.json --resolution 256
    python tests/benchmarks/budget.py --resolution 256    # Stable Diffusion's AutoencoderKL

Everything runs on torch's meta device: shapes are real, numbers are not. Printed per image: floating-point operations
of forward and backward (twice the forward; a multiplication and an addition are two), and bytes that the forward pass
keeps for the backward in float32 and with 16-bit autocast (where convolutions and what follows keep half as many).
"""

import argparse

import torch
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from vae_plugin.autoencoders import adapt, new_from_config
from vae_plugin.training.losses import PatchDiscriminator

STABLE_DIFFUSION = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


def budget(work, inputs: torch.Tensor) -> tuple[float, float]:
    """Operations of the forward pass and bytes that it keeps."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            kept[id(storage)] = storage.nbytes()
            alive.append(storage)
        return tensor

    alive: list = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), FlopCounterMode(display=False) as counter:
        work(inputs)
    return counter.get_total_flops(), sum(kept.values())


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_config", default=None)
    parser.add_argument("--resolution", type=int, default=256)
    options = parser.parse_args()
    with torch.device("meta"):
        model = AutoencoderKL(**STABLE_DIFFUSION) if options.model_config is None else None
        discriminator = PatchDiscriminator(3)
    adapter = adapt(model) if model is not None else new_from_config(options.model_config)
    model = adapter.model.to("meta")
    x = torch.zeros(1, model.config.in_channels, options.resolution, options.resolution, device="meta")
    weights = sum(p.numel() for p in model.parameters())
    print(f"{type(model).__name__}: {weights / 1e6:.1f} million weights")
    fixed = 4 * weights / 2**30
    print(f"float32 weights {fixed:.2f} GiB, gradients {fixed:.2f}, AdamW {2 * fixed:.2f}, --use_ema {fixed:.2f}")
    parts = {
        "all": lambda t: adapter.decode(adapter.posterior(t).mode()),
        "discriminator": discriminator,
    }
    for name, work in parts.items():
        operations, kept = budget(work, x[:, :3] if name == "discriminator" else x)
        print(
            f"{name}: {3 * operations / 1e12:.2f} TFLOP an image, {kept / 2**30:.2f} GiB kept in float32, "
            f"about {kept / 2**31:.2f} in 16 bits"
        )
    for parameter in (*model.encoder.parameters(), *(model.quant_conv.parameters() if model.quant_conv else ())):
        parameter.requires_grad_(False)
    with torch.no_grad():
        z = adapter.posterior(x).mode()
        encoding, _ = budget(lambda t: adapter.posterior(t).mode(), x)
    decoding, kept = budget(lambda t: adapter.decode(t), z)
    print(
        f"--train decoder: {(encoding + 3 * decoding) / 1e12:.2f} TFLOP an image, {kept / 2**30:.2f} GiB kept in "
        f"float32, about {kept / 2**31:.2f} in 16 bits"
    )


if __name__ == "__main__":
    main()
