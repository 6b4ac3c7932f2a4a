"""Train on circles, load the result in a diffusers pipeline and generate (3 to 5 minutes, no download).

A VAE is trained and measured; a small diffusion transformer learns its latents; both are saved as a diffusers pipeline,
which is loaded again and generates new circles. A second VAE finds the factors of the circles, one in a latent, and a
VQ-VAE learns the circles as discrete codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiTPipeline

from ..autoencoders import AutoencoderVAE, AutoencoderVQVAE
from ..datasets import Circles
from ..finetune import train
from ..options import LARGEST_SEED, build, option, parse
from ..signals import Interrupted
from ..training.interrupts import InterruptRequest
from ..training.settings import FinetuneOptions
from .denoiser import draw, latent_pipeline
from .overview import draw_pictures

ENCODED = 4000  # circles of which the diffusion model sees the latents
FLAT: dict[str, Any] = {
    "network": "mlp", "hidden_sizes": (64, 128, 64), "mlp_act_fn": "silu", "likelihood": "bernoulli",
}  # fmt: skip
# One vector for a whole circle, so that whatever a diffusion model draws is decoded to one circle. A weight below 1,
# because it needs more information in the latents than the ELBO pays for.
VECTOR: dict[str, Any] = {**FLAT, "latent_channels": 8, "beta": 0.3, "train_batch_size": 64}
# As examples/circles-colours.yaml, which says why.
DISENTANGLED: dict[str, Any] = {
    **FLAT, "resolution": 16, "latent_channels": 5, "beta": 2.0, "tc_weight": 10.0, "learning_rate": 2e-3,
    "train_batch_size": 256,
}  # fmt: skip
# A grid of codes, which needs no codebook to be learnt: with learnt ones, a few seeds had gray discs by then.
DISCRETE: dict[str, Any] = {
    "model_type": "vqvae", "quantizer": "fsq", "fsq_levels": (8, 8, 8), "latent_channels": 3, "layers_per_block": 1,
    "block_out_channels": (8, 16, 32), "norm_num_groups": 4, "mid_block_add_attention": False, "channels_last": True,
}  # fmt: skip


@dataclass
class DemoOptions:
    """Options of `vae-plugin demo`; the defaults take 3 to 5 minutes of one core."""

    output_dir: str = option("demo-output", "Folder of the results.", path=True)
    seed: int = option(0, "Seed of the data, the training and the samples.", at_least=0, at_most=LARGEST_SEED)
    resolution: int = option(32, "Side of the images in pixels.", at_least=8, at_most=2**12)
    train_steps: int = option(4000, "Training steps of the VAE.", at_least=1)
    denoiser_steps: int = option(1500, "Training steps of the diffusion model on the latents.", at_least=1)
    disentangled_steps: int = option(2200, "Training steps of the VAE with a factor in each latent.", at_least=1)
    vqvae_steps: int = option(700, "Training steps of the VQ-VAE.", at_least=1)
    num_circles: int = option(10_000, "Number of circles in the training set.", at_least=16, at_most=10**8)


def run(argv: Sequence[str] | None, prog: str) -> dict[str, float]:
    """Parse the options and run `demo`.

    On one thread: several make networks as small as these slower, and round differently on every machine.
    """
    options = parse(DemoOptions, argv, prog=prog, description=(__doc__ or "").splitlines()[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return demo(options)
    finally:
        torch.set_num_threads(threads)


def demo(options: DemoOptions) -> dict[str, float]:
    """Train, load in a pipeline, generate.

    Returns:
        The metrics of the VAE on held-out circles, as in OUT/vae/metrics.json.

    Raises:
        TrainingStopped: if training stops.
        Interrupted: if a signal ends it.
    """
    output_dir = Path(options.output_dir)
    print("1. Train a VAE on circles.")
    metrics = _train(options, "vae", options.train_steps, **VECTOR)
    vae = AutoencoderVAE.from_pretrained(output_dir / "vae").eval()

    print("2. Train a small diffusion transformer on its latents.")
    circles = Circles(min(ENCODED, options.num_circles), options.resolution, 3, seed=2 * options.seed, hue=True)
    torch.manual_seed(options.seed)
    latent_pipeline(vae, circles, options.denoiser_steps).save_pretrained(output_dir / "pipeline")

    print("3. Load both as a diffusers pipeline and generate circles.")
    drawn = draw(DiTPipeline.from_pretrained(output_dir / "pipeline"), 24, options.seed)

    print("4. Train a VAE whose latents are x, y, radius and hue: a weight on their total correlation.")
    steps = options.disentangled_steps
    _train(options, "disentangled", steps, **DISENTANGLED, kl_warmup_steps=2 * steps // 3)

    print("5. Train a VQ-VAE: the same circles as discrete codes.")
    _train(options, "vqvae", options.vqvae_steps, **DISCRETE)
    draw_pictures(
        output_dir,
        vae,
        AutoencoderVAE.from_pretrained(output_dir / "disentangled").eval(),
        AutoencoderVQVAE.from_pretrained(output_dir / "vqvae").eval(),
        drawn,
        2 * options.seed + 1,
    )
    print(f"See {output_dir}/overview.png; more pictures are in the samples/ of {output_dir}/vae/ and its neighbours.")
    return metrics


def _train(options: DemoOptions, name: str, steps: int, **changes: Any) -> dict[str, float]:
    """Train into OUT/name and return the metrics."""
    recipe = {
        "resolution": options.resolution,
        "train_batch_size": 16,
        "learning_rate": 3e-3,
        "lr_scheduler": "cosine",
        "lr_warmup_steps": min(100, steps // 4),
        **changes,
    }
    recipe["train_batch_size"] = min(recipe["train_batch_size"], options.num_circles)
    settings = build(
        FinetuneOptions,
        dataset_name="circles",
        circles_hue=True,
        circles_length=options.num_circles,
        max_train_steps=steps,
        seed=options.seed,
        output_dir=str(Path(options.output_dir) / name),
        resume_from_checkpoint="latest",  # a second demo in the same folder continues the first
        **recipe,
    )
    interrupt = InterruptRequest()
    metrics = train(settings, interrupt=interrupt)
    if metrics is None:
        assert interrupt.ended_by is not None  # a demo has one process, which returns its metrics otherwise
        raise Interrupted(interrupt.ended_by, "the same command continues the demo.")
    return metrics
