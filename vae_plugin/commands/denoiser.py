"""The small diffusion model of `vae-plugin demo`, in the latents of a VAE."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from diffusers.training_utils import EMAModel
from torch.nn import functional as F

from ..autoencoders import AutoencoderVAE
from ..datasets import Circles
from ..training.progress import Progress

BATCH = 128
EMA_DECAY = 0.995
LABEL = "circle"  # the one class of the pipeline


def latent_pipeline(vae: AutoencoderVAE, circles: Circles, steps: int) -> DiTPipeline:
    """Train a diffusion transformer on the latents of circles, and put both into a diffusers pipeline."""
    pipeline = DiTPipeline(
        transformer=_train_denoiser(vae, circles, steps), vae=vae, scheduler=_scheduler(), id2label={0: LABEL}
    )
    pipeline.register_to_config(id2label={0: LABEL})  # otherwise it is not saved
    return pipeline


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


def _train_denoiser(vae: AutoencoderVAE, circles: Circles, steps: int) -> DiTTransformer2DModel:
    """Train a diffusion transformer to denoise samples of the standardised latents; its averaged weights are kept."""
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
        patch_size=1,  # the latents are a vector or few positions
        num_embeds_ada_norm=1000,  # the pipeline always uses label 1000 for "no label"
    )
    scheduler = _scheduler()
    optimizer = torch.optim.AdamW(denoiser.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, max(2, steps), pct_start=0.05)
    average = EMAModel(denoiser.parameters(), decay=EMA_DECAY)
    labels = torch.zeros(BATCH, dtype=torch.long)
    progress = Progress(steps)
    for _ in range(steps):
        chosen = torch.randint(len(mean), (BATCH,))
        z = mean[chosen] + std[chosen] * torch.randn_like(mean[chosen])
        clean = (z - vae.config.shift_factor) * vae.config.scaling_factor
        noise = torch.randn_like(clean)
        times = torch.randint(scheduler.config.num_train_timesteps, (BATCH,))
        noisy = scheduler.add_noise(clean, noise, times)
        predicted = denoiser(noisy, timestep=times, class_labels=labels).sample
        loss = F.mse_loss(predicted, scheduler.get_velocity(clean, noise, times))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.step(denoiser.parameters())
        progress.step({"loss": f"{loss.item():.3f}"})
    progress.close()
    average.copy_to(denoiser.parameters())
    return denoiser.eval()
