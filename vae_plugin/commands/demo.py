"""Train on circles, load the result in a diffusers pipeline and generate (3 minutes, no download).

A VAE is trained and measured; a small diffusion transformer learns its latents; both are saved as a diffusers pipeline,
which is loaded again and generates new circles. Then a VQ-VAE learns the circles as discrete codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from PIL import Image
from torch.nn import functional as F
from tqdm.auto import tqdm

from .. import pictures
from ..autoencoders import AutoencoderVAE, AutoencoderVQVAE
from ..datasets import Circles
from ..finetune import train
from ..latents import interpolate
from ..options import LARGEST_SEED, build, option, parse
from ..signals import Interrupted
from ..training.interrupts import InterruptRequest
from ..training.settings import FinetuneOptions

BATCH = 64  # of the diffusion transformer
LABEL = "circle"  # the one class of the pipeline


@dataclass
class DemoOptions:
    """Options of `vae-plugin demo`; the defaults take less than 3 minutes on 2 cores."""

    output_dir: str = option("demo-output", "Folder of the results.", path=True)
    seed: int = option(0, "Seed of the data, the training and the samples.", at_least=0, at_most=LARGEST_SEED)
    resolution: int = option(32, "Side of the images in pixels.", at_least=8, at_most=2**12)
    train_steps: int = option(900, "Training steps of the VAE.", at_least=1)
    denoiser_steps: int = option(1000, "Training steps of the diffusion model on the latents.", at_least=1)
    vqvae_steps: int = option(400, "Training steps of the VQ-VAE.", at_least=1)
    num_circles: int = option(4000, "Number of circles in the training set.", at_least=16, at_most=10**8)


def run(argv: Sequence[str] | None, prog: str) -> dict[str, float]:
    """Parse the options and run `demo`."""
    return demo(parse(DemoOptions, argv, prog=prog, description=(__doc__ or "").splitlines()[0]))


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
    # Below 1, because a diffusion model needs more information in its latents than the ELBO pays for.
    metrics = _train(options, "vae", options.train_steps, beta=0.1)
    vae = AutoencoderVAE.from_pretrained(output_dir / "vae").eval()

    print("2. Train a small diffusion transformer on its latents.")
    circles = Circles(options.num_circles, options.resolution, 3, seed=2 * options.seed, hue=True)
    torch.manual_seed(options.seed)
    pipeline = DiTPipeline(
        transformer=_train_denoiser(vae, circles, options),
        vae=vae,
        scheduler=_scheduler(),
        id2label={0: LABEL},
    )
    pipeline.register_to_config(id2label={0: LABEL})  # otherwise it is not saved
    pipeline.save_pretrained(output_dir / "pipeline")

    print("3. Load both as a diffusers pipeline and generate circles.")
    pipeline = DiTPipeline.from_pretrained(output_dir / "pipeline")
    drawn = draw(pipeline, 24, options.seed)
    held_out = Circles(8, options.resolution, 3, seed=2 * options.seed + 1, hue=True)
    images = held_out.render(held_out.factors)

    print("4. Train a VQ-VAE: the same circles as discrete codes.")
    # So few steps need codes that follow the encoder faster than usual, and do not start from its untrained latents.
    _train(options, "vqvae", options.vqvae_steps, model_type="vqvae", ema_decay=0.9, kmeans_init=False)
    vqvae = AutoencoderVQVAE.from_pretrained(output_dir / "vqvae").eval()
    strips = {
        "reconstructions": (
            "Circles that were not trained on, and their reconstructions by a VAE",
            pictures.reconstructions(vae, images),
        ),
        "interpolation": ("A walk from one latent to another", _interpolation(vae, images[1], images[3])),
        "pipeline": ("Samples of a small diffusion transformer in these latents", pictures.grid(drawn, 8)),
        "indices": ("Circles, their codes in false colours, and reconstructions", pictures.index_map(vqvae, images)),
        "code_changes": (
            "One code exchanged for others, and below it what that changes",
            pictures.code_changes(vqvae, images[4:5]),
        ),
    }
    for name, (_, picture) in strips.items():
        pictures.save_png(picture, output_dir / f"{name}.png")
    pictures.save_png(pictures.labelled(list(strips.values())), output_dir / "overview.png")
    print(f"See {output_dir}/overview.png; more pictures are in {output_dir}/vae/samples/ and .../vqvae/samples/.")
    return metrics


def _train(options: DemoOptions, name: str, steps: int, **changes: Any) -> dict[str, float]:
    """Train into OUT/name and return the metrics."""
    settings = build(
        FinetuneOptions,
        dataset_name="circles",
        circles_hue=True,
        circles_length=options.num_circles,
        resolution=options.resolution,
        block_out_channels=(8, 16, 32),
        norm_num_groups=4,
        mid_block_add_attention=False,
        train_batch_size=16,
        max_train_steps=steps,
        learning_rate=4e-3,
        lr_warmup_steps=min(50, steps // 4),
        seed=options.seed,
        output_dir=str(Path(options.output_dir) / name),
        resume_from_checkpoint="latest",  # a second demo in the same folder continues the first
        **changes,
    )
    interrupt = InterruptRequest()
    metrics = train(settings, interrupt=interrupt)
    if metrics is None:
        assert interrupt.ended_by is not None  # a demo has one process, which returns its metrics otherwise
        raise Interrupted(interrupt.ended_by, "the same command continues the demo.")
    return metrics


def draw(pipeline: DiTPipeline, n: int, seed: int = 0) -> torch.Tensor:
    """Samples of the pipeline: (n, 3, H, W) in [-1, 1]."""
    pipeline.set_progress_bar_config(disable=True)
    labels = pipeline.get_label_ids([LABEL] * n)
    generator = torch.Generator().manual_seed(seed)
    images = pipeline(labels, guidance_scale=1.0, num_inference_steps=50, generator=generator, output_type="np").images
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=False, prediction_type="v_prediction"
    )


def _train_denoiser(vae: AutoencoderVAE, circles: Circles, options: DemoOptions) -> DiTTransformer2DModel:
    """Train a diffusion transformer to denoise samples of the standardised latents."""
    with torch.no_grad():
        posteriors = [vae.posterior(circles.render(factors)) for factors in circles.factors.split(200)]
    mean, std = torch.cat([q.mean for q in posteriors]), torch.cat([q.std for q in posteriors])

    denoiser = DiTTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=32,
        in_channels=mean.shape[1],
        out_channels=mean.shape[1],
        num_layers=3,
        sample_size=mean.shape[-1],
        patch_size=2,
        num_embeds_ada_norm=1000,  # the pipeline always uses label 1000 for "no label"
    )
    scheduler = _scheduler()
    optimizer = torch.optim.AdamW(denoiser.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, max(2, options.denoiser_steps), pct_start=0.05)
    labels = torch.zeros(BATCH, dtype=torch.long)
    progress = tqdm(range(options.denoiser_steps), unit="step")
    for _ in progress:
        chosen = torch.randint(len(mean), (BATCH,))
        z = mean[chosen] + std[chosen] * torch.randn_like(mean[chosen])
        clean = (z - vae.config.shift_factor) * vae.config.scaling_factor
        noise = torch.randn_like(clean)
        steps = torch.randint(scheduler.config.num_train_timesteps, (BATCH,))
        noisy = scheduler.add_noise(clean, noise, steps)
        predicted = denoiser(noisy, timestep=steps, class_labels=labels).sample
        loss = F.mse_loss(predicted, scheduler.get_velocity(clean, noise, steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}")
    return denoiser.eval()


@torch.no_grad()
def _interpolation(vae: AutoencoderVAE, a: torch.Tensor, b: torch.Tensor, steps: int = 8) -> Image.Image:
    z = vae.posterior(torch.stack([a, b])).mode()
    return pictures.grid(vae.decode(interpolate(z[0], z[1], steps)).sample, steps)
