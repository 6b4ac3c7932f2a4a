"""Time of one optimiser step of the autoencoder with LPIPS and a discriminator, against diffusers' training script.

    python tests/benchmarks/generator_step.py

Theirs is the schedule of `examples/research_projects/autoencoderkl/train_autoencoderkl.py` of diffusers 0.42, in its
order: batches go to autoencoder and discriminator in turn, so that one step of the autoencoder costs two batches; LPIPS
under no_grad ("repaired": with its gradient, as was meant); two gradients at the last layer for the adaptive weight and
then the whole backward pass; in the discriminator's turn the autoencoder runs with a graph, and the backward pass goes
through it. Ours is what `vae_plugin/finetune.py` does with a batch: both are trained on it. Same model, images, batch,
networks and optimisers, in one process, in turn; medians of --repeats. LPIPS has VGG16's convolutions with random
weights. (The script itself needs torchvision, lpips and taming-transformers; its loop is rebuilt here.)

Printed: seconds per step of the autoencoder, the ratio, and where the time of ours goes.
"""

import argparse
import statistics
import time

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from vae_plugin.autoencoders import adapt
from vae_plugin.training.losses import (
    Adversary,
    DiscriminatorLoss,
    ImageLoss,
    PatchDiscriminator,
    PerceptualDistance,
    ReconstructionLoss,
)
from vae_plugin.training.losses.discriminator import discriminator_loss
from vae_plugin.training.setup_model import compile_parts


class VGG16(nn.Module):
    """The 13 convolutions of VGG16, giving the five maps that LPIPS compares."""

    def __init__(self) -> None:
        super().__init__()
        widths, channels = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)), 3
        self.stages = nn.ModuleList()
        for stage, row in enumerate(widths):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if stage else []
            for width in row:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.stages.append(nn.Sequential(*layers))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Five maps of images (B, 3, H, W)."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Setup:
    """Both sides begin from these, with weights of their own."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        levels = len(options.channels)
        self.vae = AutoencoderKL(
            block_out_channels=options.channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=2,
            norm_num_groups=16,
        ).to(options.device)
        self.discriminator = PatchDiscriminator(3).to(options.device)
        self.perceptual = PerceptualDistance(VGG16()).to(options.device)
        self.optimizer = torch.optim.AdamW(self.vae.parameters(), lr=1e-5)
        self.disc_optimizer = torch.optim.AdamW(self.discriminator.parameters(), lr=1e-5)


class Theirs(Setup):
    """Two batches for a step; `repaired` lets the gradient of LPIPS through, as was meant."""

    def __init__(self, options: argparse.Namespace, repaired: bool = False) -> None:
        super().__init__(options)
        self.repaired = repaired

    def step(self, batches: list[torch.Tensor]) -> None:
        """One step of the autoencoder and one of the discriminator."""
        x = batches[0]
        posterior = self.vae.encode(x).latent_dist
        y = self.vae.decode(posterior.sample()).sample
        with torch.set_grad_enabled(self.repaired):
            distance = self.perceptual(y, x)
        nll = (F.l1_loss(y, x, reduction="none") + 0.5 * distance.view(-1, 1, 1, 1)).sum() / len(x)
        kl = posterior.kl().mean()
        adversarial = -self.discriminator(y).mean()
        last = self.vae.decoder.conv_out.weight
        lengths = [torch.autograd.grad(v, last, retain_graph=True)[0].norm() for v in (nll, adversarial)]
        weight = (lengths[0] / (lengths[1] + 1e-4)).clamp(0, 1e4).detach()
        (nll + 1e-6 * kl + 0.5 * weight * adversarial).backward()
        nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

        x = batches[1]
        posterior = self.vae.encode(x).latent_dist
        y = self.vae.decode(posterior.sample()).sample
        discriminator_loss(self.discriminator(x), self.discriminator(y), "hinge").backward()
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 1.0)
        self.disc_optimizer.step()
        self.disc_optimizer.zero_grad()


class Ours(Setup):
    """One batch for a step."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        image_loss = ImageLoss("l1", perceptual=self.perceptual, adversary=Adversary(self.discriminator))
        self.loss = ReconstructionLoss(adapt(self.vae), image_loss, kl_scale=1e-6)
        self.judge = DiscriminatorLoss(self.discriminator)
        if options.channels_last:
            for module in (self.vae, self.perceptual, self.discriminator):
                module.to(memory_format=torch.channels_last)
        if options.compile:
            compile_parts(self.vae.encoder)
            compile_parts(self.vae.decoder, but=self.vae.decoder.conv_out)
        self.memory_format = torch.channels_last if options.channels_last else torch.contiguous_format

    def step(self, batches: list[torch.Tensor]) -> None:
        """One step of the autoencoder and one of the discriminator."""
        x = batches[0].contiguous(memory_format=self.memory_format)
        noise = torch.randn(self.loss.noise_shape(*x[:, 0].shape), device=x.device)
        terms = self.loss(x, noise, 0)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.judge(x, terms["reconstruction"])["loss"].backward()
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 1.0)
        self.disc_optimizer.step()
        self.disc_optimizer.zero_grad()


def seconds(work, device: torch.device) -> float:
    """Of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256, 256])
    parser.add_argument("--channels_last", action="store_true", help="ours with --channels_last")
    parser.add_argument("--compile", action="store_true", help="ours with --compile")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = (options.batch_size, 3, options.resolution, options.resolution)
    batches = [torch.rand(shape, device=options.device) * 2 - 1 for _ in range(2)]
    sides = {"theirs": Theirs(options), "repaired": Theirs(options, repaired=True), "ours": Ours(options)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(options.repeats + 1):
        for name, side in sides.items():
            elapsed = seconds(lambda side=side: side.step(batches), options.device)
            if repeat:  # the first warms up
                times[name].append(elapsed)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{options.device.type}, {options.batch_size} images of {options.resolution} pixels:")
    for name, value in medians.items():
        print(f"{name:8} {value:.3f} s a step of the autoencoder")
    print(
        f"theirs / ours: {medians['theirs'] / medians['ours']:.2f}, "
        f"repaired / ours: {medians['repaired'] / medians['ours']:.2f}"
    )

    ours = sides["ours"]
    x = batches[0]

    def autoencoder() -> None:
        y = ours.vae(x, sample_posterior=True).sample
        y.backward(torch.ones_like(y))
        ours.optimizer.zero_grad()

    def judge(network) -> None:
        y = batches[1].clone().requires_grad_()
        network(y).mean().backward()

    parts = {
        "autoencoder forward and backward": autoencoder,
        "perceptual distance and its gradient": lambda: judge(lambda y: ours.perceptual(y, x)),
        "adversary and its gradient": lambda: judge(Adversary(ours.discriminator).logits),
        "discriminator's own step": lambda: ours.judge(x, batches[1])["loss"].backward(),
    }
    for name, work in parts.items():
        work()
        elapsed = statistics.median(seconds(work, options.device) for _ in range(options.repeats))
        print(f"  {name}: {elapsed:.3f} s, {100 * elapsed / medians['ours']:.0f} %")


if __name__ == "__main__":
    main()
