"""Time of one training step of a causal autoencoder on images: its one-frame form against diffusers' own 3-D network.

    python tests/benchmarks/one_frame.py

Both make a step of AdamW on the squared error of the same images: encode, sample, decode, backward. Theirs runs
`encode`, `post_quant_conv` and `decoder` of `AutoencoderKLQwenImage` on a video of one frame, without the clamp of
`decode`. In one process, in turn; medians of --repeats after a first step of each. Also printed: the weights that are
trained, of which AdamW keeps two moments.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import AutoencoderKLQwenImage
from torch import nn

from vae_plugin.autoencoders import adapt


def stepper(model: nn.Module, reconstruct: Callable, x: torch.Tensor) -> Callable[[], float]:
    """A function that makes one step and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> float:
        begin = time.perf_counter()
        (reconstruct(x) - x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - begin

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base_dim", type=int, default=32, help="Width of the first level; Qwen-Image has 96.")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    whole = AutoencoderKLQwenImage(base_dim=args.base_dim)
    adapter = adapt(whole)
    x = torch.rand(args.batch_size, 3, args.resolution, args.resolution) * 2 - 1

    def theirs(x: torch.Tensor) -> torch.Tensor:
        z = whole.encode(x[:, :, None]).latent_dist.sample()
        whole.clear_cache()
        decoded = whole.decoder(whole.post_quant_conv(z), feat_cache=whole._feat_map, feat_idx=whole._conv_idx)
        return decoded[:, :, 0]

    def ours(x: torch.Tensor) -> torch.Tensor:
        return adapter.training_pass(x, torch.randn(adapter.noise_shape(*x.shape[::2], x.shape[3]))).reconstruction

    steps = {"3-D": stepper(whole, theirs, x), "one frame": stepper(adapter.model, ours, x)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(args.repeats + 1):
        for name, step in steps.items():
            seconds = step()
            if turn:
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    sizes = [sum(p.numel() for p in model.parameters()) for model in (whole, adapter.model)]
    print(f"base_dim {args.base_dim}, {args.batch_size} images of {args.resolution} pixels")
    for name, seconds in medians.items():
        print(f"{name}: {seconds:.3f} s")
    print(f"ratio of times {medians['3-D'] / medians['one frame']:.2f}, of weights {sizes[0] / sizes[1]:.2f}")


if __name__ == "__main__":
    main()
