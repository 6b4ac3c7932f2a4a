"""Test log-likelihood of the one-layer VAE on MNIST, against Burda, Grosse & Salakhutdinov 2016 (IWAE), table 1.

Their VAE with k = 1, one stochastic layer of 50 latents and two hidden layers of 200 tanh units, Bernoulli pixels
binarised anew in every epoch: 86.76 nats by 5,000 importance samples.

    python tests/benchmarks/burda2016.py --train train.parquet --test test.parquet --fraction 1.0

The recipe is theirs: Glorot-uniform weights, the output bias set to the pixels' mean, batches of 20, 59,600 training
images in order, stages i = 0..7 of 3^i epochs at learning rate 1e-4 * round(10^(1 - i/7), 1), Adam with epsilon 1e-4;
the test images binarised once. Different here: Adam starts from zero moments with bias correction (theirs from a second
moment of 1). All 3,280 epochs take many hours on one core; `--fraction` shortens every stage alike, and the number it
gives is that of a shorter training. The parquet files are MNIST as on the Hub (column image with PNG bytes).

It prints -log p(x) over the test images with its standard error, -ELBO, the number of active units, and the epochs.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from tqdm.auto import tqdm

from vae_plugin.datasets import load_images
from vae_plugin.metrics import active_units
from vae_plugin.models import VAE, Bernoulli, MLPDecoder, MLPEncoder
from vae_plugin.objectives import elbo, importance_weighted_bound

BATCH, LATENTS, HIDDEN, TRAIN_IMAGES = 20, 50, (200, 200), 59_600


def pixels(path: str) -> torch.Tensor:
    """All images of a parquet file in [0, 1]: (N, 784)."""
    images = load_images(train_data_dir=path, resolution=28, channels=1, center_crop=True)
    return torch.stack([images[i]["pixel_values"].flatten() for i in tqdm(range(len(images)))]) / 2 + 0.5


def binarise(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pixels drawn as coin flips, as images (N, 1, 28, 28) of -1 and 1."""
    return (torch.rand(x.shape, generator=generator) < x).float().mul_(2).sub_(1).unflatten(1, (1, 28, 28))


def train(model: VAE, x: torch.Tensor, fraction: float, stages: int) -> int:
    """Train; returns the number of epochs."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-4, fused=True)
    epochs = 0
    for stage in range(stages):
        rate = 1e-4 * round(10 ** (1 - stage / 7), 1)
        optimizer.param_groups[0]["lr"] = rate
        for _ in tqdm(range(max(1, math.ceil(fraction * 3**stage))), desc=f"stage {stage}, rate {rate:.1e}"):
            for batch in binarise(x, generator).split(BATCH):
                optimizer.zero_grad()
                (-elbo(model, batch, generator).value.mean()).backward()
                optimizer.step()
            epochs += 1
    return epochs


@torch.no_grad()
def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--stages", type=int, default=8)
    parser.add_argument("--num_samples", type=int, default=5000)
    parser.add_argument("--num_test_images", type=int, default=10_000)
    parser.add_argument("--save", type=Path, help="where to keep the weights")
    options = parser.parse_args()

    torch.manual_seed(0)
    x = pixels(options.train)[:TRAIN_IMAGES]
    model = VAE(MLPEncoder((1, 28, 28), LATENTS, HIDDEN), MLPDecoder(LATENTS, (1, 28, 28), HIDDEN), Bernoulli())
    model.decoder.layers[-1].bias.copy_(torch.logit(x.mean(0).clamp(0.001, 0.999)))
    with torch.enable_grad():
        epochs = train(model, x, options.fraction, options.stages)
    if options.save:
        torch.save(model.state_dict(), options.save)

    generator = torch.Generator().manual_seed(123)
    test = binarise(pixels(options.test), generator)[: options.num_test_images]
    log_p, bounds, means = [], [], []
    for batch in tqdm(test.split(50), desc="test"):
        log_p.append(importance_weighted_bound(model, batch, options.num_samples, generator, samples_per_pass=100))
        bounds.append(elbo(model, batch, generator).value)
        means.append(model.posterior(batch).mean)
    log_p = torch.cat(log_p).double()
    result = {
        "nll_nats": -log_p.mean().item(),
        "standard_error": (log_p.std() / len(log_p) ** 0.5).item(),
        "num_importance_samples": options.num_samples,
        "negative_elbo_nats": -torch.cat(bounds).mean().item(),
        "active_units": active_units(torch.cat(means)),
        "test_images": len(test),
        "epochs": epochs,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
