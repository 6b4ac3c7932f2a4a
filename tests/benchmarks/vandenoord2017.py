"""Reconstruction error of the VQ-VAE on CIFAR-10, against the curve in van den Oord's own notebook.

`sonnet/examples/vqvae_example.ipynb` (github.com/google-deepmind/sonnet) trains with moving averages. Its saved output
has, of the reconstruction error over the variance of the data: .223 at step 200, .105 at 1,000, .081 at 2,000, .071 at
3,000, .061 at 5,000 and .056 at 10,000; the perplexity of a batch's codes is 326 at the end.

    python tests/benchmarks/vandenoord2017.py --train train-00000-of-00001.parquet --steps 1000

The recipe is the notebook's: two 4x4 convolutions with stride 2 and one 3x3, two residual layers of 32 hidden units,
the mirror of it as decoder, 512 codes of 64 numbers, beta 0.25, decay 0.99, Adam at 3e-4, batches of 32, 40,000
training images in [-0.5, 0.5] without augmentation. Neither k-means nor revival, which the notebook has not; `--kmeans`
and `--revive` turn ours on. Different here: the moving averages begin from one imagined vector per code, where the
notebook corrects averages that begin at zero.

The parquet file is CIFAR-10 as on the Hub (column of images as PNG or JPEG bytes): of a copy that was compressed again,
the numbers are near the notebook's but not to be expected to equal them. 1,000 steps take a few minutes on two cores.

Measured on a copy that was compressed again as JPEG: .111 at step 1,000 and .0513 at 10,000; with `--kmeans --revive`
.079 and .0518, at a perplexity of 334 at step 1,000 where the notebook's way has 57. The files are in `results/`.

It prints a line at each of the notebook's steps: the mean over the last 100 steps (as the notebook has it) of error and
perplexity.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from report import report
from vae_plugin.datasets import load_images
from vae_plugin.models import VQVAE, Gaussian, VectorQuantizer
from vae_plugin.models.quantizers.entropy import perplexity
from vae_plugin.objectives import vq_loss

PUBLISHED = {200: 0.223, 1000: 0.105, 2000: 0.081, 3000: 0.071, 5000: 0.061, 10000: 0.056}
BATCH, HIDDEN, RESIDUAL, CODES, DIM, TRAIN_IMAGES, AVERAGED = 32, 128, 32, 512, 64, 40_000, 100


class ResidualLayer(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x))))."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(HIDDEN, RESIDUAL, 3, padding=1)
        self.mix = nn.Conv2d(RESIDUAL, HIDDEN, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mix(F.relu(self.conv(F.relu(x))))


class Scale(nn.Module):
    """Times a constant: the notebook's networks see [-0.5, 0.5]."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def make_model(pixel_variance: float, kmeans: bool, revive: bool) -> VQVAE:
    """The notebook's model; its loss is the error over the variance plus the commitment."""
    encoder = nn.Sequential(
        Scale(0.5), nn.Conv2d(3, HIDDEN // 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(HIDDEN // 2, HIDDEN, 4, 2, 1), nn.ReLU(),
        nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1), ResidualLayer(), ResidualLayer(), nn.ReLU(), nn.Conv2d(HIDDEN, DIM, 1),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Conv2d(DIM, HIDDEN, 3, padding=1), ResidualLayer(), ResidualLayer(), nn.ReLU(),
        nn.ConvTranspose2d(HIDDEN, HIDDEN // 2, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(HIDDEN // 2, 3, 4, 2, 1),
        Scale(2.0),
    )  # fmt: skip
    for layer in [*encoder.modules(), *decoder.modules()]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):  # sonnet's own: variance 1 / inputs, biases zero
            inputs = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
            nn.init.trunc_normal_(layer.weight, std=inputs**-0.5, a=-2 * inputs**-0.5, b=2 * inputs**-0.5)
            nn.init.zeros_(layer.bias)
    quantizer = VectorQuantizer(
        CODES, DIM, commitment_weight=0.25, decay=0.99, kmeans_init=kmeans, dead_code_threshold=0.1 if revive else 0.0
    )
    likelihood = Gaussian((pixel_variance / 2) ** 0.5)
    return VQVAE(
        encoder=encoder, decoder=decoder, likelihood=likelihood, quantizer=quantizer, spatial_compression_ratio=4
    )


def main() -> None:
    """Train and print the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="parquet file of the training images")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kmeans", action="store_true", help="place the codes by k-means")
    parser.add_argument("--revive", action="store_true", help="move dead codes")
    parser.add_argument("--output", type=Path, help="JSON file of the result")
    options = parser.parse_args()

    images = load_images(train_data_dir=options.train, resolution=32, channels=3, center_crop=True)
    x = torch.stack([images[i]["pixel_values"] for i in tqdm(range(TRAIN_IMAGES), desc="reading")])
    variance = x.var().item()
    print(f"Variance of the data in [-0.5, 0.5]: {variance / 4:.4f}.")
    torch.manual_seed(options.seed)
    model = make_model(variance, options.kmeans, options.revive).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    order = torch.Generator().manual_seed(options.seed)
    batches = iter(())
    errors, perplexities, curve = [], [], {}
    start = time.process_time()
    for step in tqdm(range(1, options.steps + 1)):
        batch = next(batches, None)
        if batch is None:
            batches = iter(torch.randperm(len(x), generator=order)[: len(x) // BATCH * BATCH].split(BATCH))
            batch = next(batches)
        output, posterior, losses = model(x[batch])
        loss = vq_loss(model.likelihood.log_prob(x[batch], output), losses, x[0].numel())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(F.mse_loss(output.detach(), x[batch]).item() / variance)
        perplexities.append(perplexity(torch.bincount(posterior.indices.flatten())).item())
        if step in PUBLISHED or step == options.steps:
            error, codes = (sum(values[-AVERAGED:]) / len(values[-AVERAGED:]) for values in (errors, perplexities))
            curve[step] = {"error": round(error, 4), "published": PUBLISHED.get(step), "perplexity": round(codes, 1)}
            tqdm.write(f"step {step}: {curve[step]}")
    result = {
        "error_over_variance": curve,
        "kmeans": options.kmeans,
        "revive": options.revive,
        "seed": options.seed,
        "training_cpu_seconds": round(time.process_time() - start),
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
