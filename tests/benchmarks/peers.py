"""Other libraries beside ours, in turn in one process on one thread: ratios, their median and their range.

    pip install pythae vector-quantize-pytorch
    python tests/benchmarks/peers.py pythae --data_dir MNIST_TRAIN.parquet --batch_size 100
    python tests/benchmarks/peers.py likelihood
    python tests/benchmarks/peers.py quantizers
    python tests/benchmarks/peers.py diffusers

- pythae: training images a second of its default VAE for MNIST (784-512-16-512-784 with ReLU, Bernoulli pixels, Adam).
  Ours is `finetune.train` as it is, which reads the files; pythae's `BaseTrainer` is given tensors that were read
  before. The first epoch of ours decodes the images, later ones find them in memory. The ELBO of both results is
  measured by our code on the same held-out images.
- likelihood: pythae's `get_nll` against `AutoencoderVAE.log_likelihood`, with the same weights.
- quantizers: the search of codes and a training step against vector-quantize-pytorch.
- diffusers: a training step of `AutoencoderVAE` and `AutoencoderVQVAE` against the same loss around `AutoencoderKL` and
  `VQModel` with the same weights.

A ratio is the time of the other over ours: above 1, ours is faster. Times are CPU times of the process, which other
processes disturb less; the ratio by the clock stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.datasets import load_images
from vae_plugin.finetune import options, train
from vae_plugin.models import VectorQuantizer
from vae_plugin.objectives import TrainingObjective, elbo
from vae_plugin.training.interrupts import InterruptRequest
from vae_plugin.training.losses.elbo import CodebookLoss, ELBOLoss

HIDDEN, LATENTS, SIDE = 512, 16, 28
KINDS = ("weight", "bias")
MLP = {
    **{"in_channels": 1, "out_channels": 1, "sample_size": SIDE, "latent_channels": LATENTS, "network": "mlp"},
    **{"hidden_sizes": (HIDDEN,), "mlp_act_fn": "relu", "likelihood": "bernoulli"},
}


@dataclass(frozen=True)
class Moment:
    """CPU seconds of this process, and seconds by the clock."""

    cpu: float
    wall: float

    def __sub__(self, other: Moment) -> Moment:
        return Moment(self.cpu - other.cpu, self.wall - other.wall)


def now() -> Moment:
    """This moment."""
    return Moment(time.process_time(), time.perf_counter())


def timed(job: Callable[[], object]) -> Moment:
    """How long a job takes."""
    begin = now()
    job()
    return now() - begin


def report(what: str, theirs: list[Moment], ours: list[Moment]) -> None:
    """Print theirs over ours, of jobs that were done in turn."""
    found = []
    for name in ("cpu", "wall"):
        ratios = [getattr(a, name) / getattr(b, name) for a, b in zip(theirs, ours, strict=True)]
        found.append(f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f}) by {name}")
    print(f"{what:<50} {',  '.join(found)}", flush=True)


def compare(what: str, theirs: Callable[[], object], ours: Callable[[], object], repeats: int) -> None:
    """Do both in turn, after once that does not count, and print theirs over ours."""
    theirs(), ours()
    taken = [(timed(theirs), timed(ours)) for _ in range(repeats)]
    report(what, [a for a, _ in taken], [b for _, b in taken])


class Clock(InterruptRequest):
    """Notes the moment after each step of our training."""

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[Moment] = []

    def requested_anywhere(self, accelerator: Any) -> bool:
        self.moments.append(now())
        return super().requested_anywhere(accelerator)


@contextlib.contextmanager
def silence() -> Any:
    """No progress, and no news, of either."""
    logging.disable(logging.INFO)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def train_ours(data_dir: str, images: int, batch_size: int, epochs: int) -> tuple[AutoencoderVAE, list[Moment]]:
    """Our run; the result, and how long each epoch took from its first step to its last."""
    clock, steps = Clock(), images // batch_size
    with tempfile.TemporaryDirectory() as name, silence():
        Path(name, "config.json").write_text(json.dumps({"_class_name": "AutoencoderVAE", **MLP}))
        settings: dict[str, Any] = {
            **{"train_data_dir": data_dir, "model_config": f"{name}/config.json", "resolution": SIDE},
            **{"max_train_samples": images, "num_train_epochs": epochs, "train_batch_size": batch_size},
            **{"learning_rate": 1e-3, "lr_scheduler": "constant", "adam_beta2": 0.999, "output_dir": f"{name}/out"},
            **{"num_validation_images": 64, "seed": 0},
        }
        train(options(**settings), interrupt=clock)
        model = AutoencoderVAE.from_pretrained(f"{name}/out").eval()
    ends = clock.moments
    return model, [ends[(e + 1) * steps - 1] - ends[e * steps] for e in range(epochs)]


def train_pythae(x: torch.Tensor, batch_size: int, epochs: int) -> tuple[AutoencoderVAE, list[Moment]]:
    """Run of pythae on images in [0, 1]; the result as our class, and how long each epoch took."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    moments: list[Moment] = []

    class Steps(TrainingCallback):
        def on_train_step_end(self, *_: Any, **__: Any) -> None:
            moments.append(now())

    model = VAE(VAEConfig(input_dim=(1, SIDE, SIDE), latent_dim=LATENTS, reconstruction_loss="bce"))
    with tempfile.TemporaryDirectory() as name, silence():
        settings = {"output_dir": name, "num_epochs": epochs, "learning_rate": 1e-3, "seed": 0}
        config = BaseTrainerConfig(per_device_train_batch_size=batch_size, **settings)
        BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), None, config, [Steps()]).train()
    steps = len(x) // batch_size
    return as_ours(model), [moments[(e + 1) * steps - 1] - moments[e * steps] for e in range(epochs)]


def as_ours(model: torch.nn.Module) -> AutoencoderVAE:
    """A VAE of pythae's default networks as our class."""
    state = model.state_dict()
    ours = AutoencoderVAE(**MLP).eval()
    both = [torch.cat([state[f"encoder.{part}.{kind}"] for part in ("embedding", "log_var")]) for kind in KINDS]
    weight, bias = (state[f"encoder.layers.0.0.{kind}"] for kind in KINDS)  # for pixels in [0, 1]
    encoder = [weight / 2, bias + weight.sum(1) / 2, *both]
    decoder = [state[f"decoder.layers.{layer}.0.{kind}"] for layer in (0, 1) for kind in KINDS]
    with torch.no_grad():
        for parameter, value in zip(ours.parameters(), encoder + decoder, strict=True):
            parameter.copy_(value)
    return ours


def pythae(args: argparse.Namespace) -> None:
    """Training beside pythae's."""
    images = load_images(train_data_dir=args.data_dir, resolution=SIDE, channels=1, center_crop=True)
    x = torch.stack([item["pixel_values"] for item in images.__getitems__(range(args.images + 1000))])
    x, held_out = x[: args.images] / 2 + 0.5, x[args.images :]
    taken = []
    for _ in range(args.repeats):
        theirs, epochs_of_theirs = train_pythae(x, args.batch_size, args.epochs)
        ours, epochs_of_ours = train_ours(args.data_dir, args.images, args.batch_size, args.epochs)
        taken.append((epochs_of_theirs, epochs_of_ours))
        measured = [elbo(model, held_out, torch.Generator().manual_seed(0)).value.mean() for model in (theirs, ours)]
        print("ELBO of held-out images in nats, pythae's and ours: {:.2f}, {:.2f}".format(*measured))
    later = range(1, args.epochs)
    report("first epoch", [a[0] for a, _ in taken], [b[0] for _, b in taken])
    report("later epochs", [a[e] for a, _ in taken for e in later], [b[e] for _, b in taken for e in later])


@torch.no_grad()
def likelihood(args: argparse.Namespace) -> None:
    """The importance-weighted bound beside pythae's."""
    from pythae.models import VAE, VAEConfig

    torch.manual_seed(0)
    model = VAE(VAEConfig(input_dim=(1, SIDE, SIDE), latent_dim=LATENTS, reconstruction_loss="bce")).eval()
    ours = as_ours(model)
    x = torch.rand(args.images, 1, SIDE, SIDE).round()
    size = {"n_samples": args.num_samples, "batch_size": 100}
    values = {
        "pythae": float(model.get_nll(x, **size)),
        "ours": float(ours.log_likelihood(x * 2 - 1, args.num_samples).mean()),
    }
    print(f"log p(x) of {args.images} images by {args.num_samples} samples in nats: {values}")
    compare(
        "log-likelihood",
        lambda: model.get_nll(x, **size),
        lambda: ours.log_likelihood(x * 2 - 1, args.num_samples),
        args.repeats,
    )


def quantizers(args: argparse.Namespace) -> None:
    """Codebooks beside those of vector-quantize-pytorch, with the same settings."""
    from vector_quantize_pytorch import VectorQuantize

    for dim, codes in ((8, 1024), (64, 1024), (64, 8192)):
        latents = torch.randn(1, dim, 64, 64, generator=torch.Generator().manual_seed(0))
        settings = {"decay": 0.99, "commitment_weight": 0.25, "rotation_trick": False, "accept_image_fmap": True}
        theirs = VectorQuantize(dim=dim, codebook_size=codes, **settings)
        ours = VectorQuantizer(codes, dim, kmeans_init=False, dead_code_threshold=0.0)

        def step(quantizer: torch.nn.Module, x: torch.Tensor = latents) -> None:
            x = x.clone().requires_grad_()
            quantized, _, losses = quantizer(x)
            loss = sum(losses.values()) if isinstance(losses, dict) else losses.sum()
            (quantized.square().mean() + loss).backward()

        def search(quantizer: torch.nn.Module, x: torch.Tensor = latents) -> None:
            with torch.no_grad():
                quantizer(x)

        for what, job in (("search", search), ("training step", step)):
            for module in (theirs, ours):
                module.train(job is step)
            name = f"{what}, 4,096 vectors of {dim}, {codes:,} codes"
            compare(name, partial(job, theirs), partial(job, ours), args.repeats)


def diffusers(args: argparse.Namespace) -> None:
    """A step of our losses beside the same around the classes of diffusers, forward and backward, of equal weights."""
    from diffusers import AutoencoderKL, VQModel

    torch.manual_seed(0)
    shape = {"block_out_channels": (32, 64), "norm_num_groups": 8, "sample_size": args.resolution}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    x = torch.rand(args.batch_size, 3, args.resolution, args.resolution) * 2 - 1
    kl = AutoencoderKL(**shape, **blocks)
    vae = ELBOLoss(adapt(AutoencoderVAE.from_autoencoder_kl(kl)), TrainingObjective())
    noise = torch.randn(vae.noise_shape(*x[:, 0].shape))

    def bare_kl() -> None:
        posterior = kl.encode(x).latent_dist
        decoded = kl.decode(posterior.sample()).sample
        loss = (decoded - x).square().flatten(1).sum(1).mean() / 2 + posterior.kl().mean()
        (loss / x[0].numel()).backward()

    compare("AutoencoderKL", bare_kl, lambda: vae(x, noise, 0)["loss"].backward(), args.repeats)

    vq_model = VQModel(**shape, **blocks, num_vq_embeddings=512)
    vqvae = CodebookLoss(adapt(AutoencoderVQVAE.from_vq_model(vq_model)))

    def bare_vq() -> None:
        output = vq_model(x)
        ((output.sample - x).square().mean() + output.commit_loss).backward()

    compare("VQModel", bare_vq, lambda: vqvae(x, noise, 0)["loss"].backward(), args.repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    peers = parser.add_subparsers(required=True)
    of_pythae = peers.add_parser("pythae")
    of_pythae.add_argument("--data_dir", required=True, help="MNIST as parquet")
    of_pythae.add_argument("--images", type=int, default=6000)
    of_pythae.add_argument("--epochs", type=int, default=4)
    of_pythae.add_argument("--batch_size", type=int, default=100)
    of_pythae.set_defaults(run=pythae)
    of_likelihood = peers.add_parser("likelihood")
    of_likelihood.add_argument("--images", type=int, default=20)
    of_likelihood.add_argument("--num_samples", type=int, default=1000)
    of_likelihood.set_defaults(run=likelihood)
    peers.add_parser("quantizers").set_defaults(run=quantizers)
    of_diffusers = peers.add_parser("diffusers")
    of_diffusers.add_argument("--batch_size", type=int, default=4)
    of_diffusers.add_argument("--resolution", type=int, default=32)
    of_diffusers.set_defaults(run=diffusers)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.run(args)


if __name__ == "__main__":
    main()
