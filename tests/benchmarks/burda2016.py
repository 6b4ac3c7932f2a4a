"""Test log-likelihood of the one-layer VAE on MNIST, against Burda, Grosse & Salakhutdinov 2016 (IWAE), table 1.

One stochastic layer of 50 latents, two hidden layers of 200 tanh units, Bernoulli pixels binarised anew in every epoch.
Their numbers by 5,000 importance samples: VAE (k = 1) 86.76 nats, IWAE 85.54 (k = 5) and 84.78 (k = 50).

    python tests/benchmarks/burda2016.py --train train.parquet --test test.parquet --output vae.json
    python tests/benchmarks/burda2016.py ... --num_importance_samples 5 --schedule short --output iwae-5.json

`--schedule paper` is theirs: batches of 20, 59,600 training images in order, stages i = 0..7 of 3^i epochs at learning
rate 1e-4 * round(10^(1 - i/7), 1), Adam with epsilon 1e-4. All 3,280 epochs take many hours on one core; `--fraction`
shortens every stage alike. `--schedule short` is ours: batches of 100, drawn anew in every epoch, and a learning rate
that rises to 1e-3 in the first 100 steps and falls to 0 along a cosine over `--epochs`. With either schedule,
`--kl_warmup_steps N` lets the weight of the KL rise from 0 to 1 in the first N steps (Sonderby et al. 2016). The result
names the schedule.

Both have Glorot-uniform weights, the output bias set to the pixels' mean, and the test images binarised once. Different
from theirs: Adam starts from zero moments with bias correction (theirs from a second moment of 1). The parquet files
are MNIST as on the Hub (column image with PNG bytes).

It prints -log p(x) over the test images with its standard error, -ELBO and the number of active units, and writes them
with the date, the versions, the seed and the schedule to `--output`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm.auto import tqdm

from report import report
from vae_plugin.datasets import load_images
from vae_plugin.metrics import active_units
from vae_plugin.models import VAE, Bernoulli, MLPDecoder, MLPEncoder
from vae_plugin.objectives import TrainingObjective, elbo, importance_weighted_bound

LATENTS, HIDDEN, TRAIN_IMAGES = 50, (200, 200), 59_600
STAGES, PAPER_BATCH = 8, 20
SHORT_BATCH, SHORT_RATE, SHORT_WARMUP = 100, 1e-3, 100


def pixels(path: str) -> torch.Tensor:
    """All images of a parquet file in [0, 1]: (N, 784)."""
    images = load_images(train_data_dir=path, resolution=28, channels=1, center_crop=True)
    return torch.stack([images[i]["pixel_values"].flatten() for i in tqdm(range(len(images)))]) / 2 + 0.5


def binarise(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pixels drawn as coin flips, as images (N, 1, 28, 28) of -1 and 1."""
    return (torch.rand(x.shape, generator=generator) < x).float().mul_(2).sub_(1).unflatten(1, (1, 28, 28))


Rates = Iterator[tuple[float, torch.Tensor]]  # the learning rate of each step, and the images that it sees


def paper_steps(x: torch.Tensor, fraction: float, generator: torch.Generator) -> Rates:
    """Their schedule, each stage shortened to a fraction."""
    for stage in range(STAGES):
        rate = 1e-4 * round(10 ** (1 - stage / 7), 1)
        for _ in tqdm(range(stage_epochs(stage, fraction)), desc=f"stage {stage}, rate {rate:.1e}"):
            for batch in binarise(x, generator).split(PAPER_BATCH):
                yield rate, batch


def stage_epochs(stage: int, fraction: float) -> int:
    """Epochs of a stage of their schedule."""
    return max(1, math.ceil(fraction * 3**stage))


def short_steps(x: torch.Tensor, epochs: int, generator: torch.Generator) -> Rates:
    """Our schedule."""
    steps = epochs * math.ceil(len(x) / SHORT_BATCH)
    step = 0
    for _ in tqdm(range(epochs), desc="epochs"):
        for rows in torch.randperm(len(x), generator=generator).split(SHORT_BATCH):
            falling = 0.5 * (1 + math.cos(math.pi * step / steps))
            yield SHORT_RATE * min(1.0, (step + 1) / SHORT_WARMUP) * falling, binarise(x[rows], generator)
            step += 1


def train(model: VAE, steps: Rates, objective: TrainingObjective, generator: torch.Generator) -> None:
    """Train on the ELBO, or with several samples on the importance-weighted bound."""
    samples = objective.num_importance_samples
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-4, fused=True)
    for step, (rate, batch) in enumerate(steps):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        if samples == 1:
            loss = objective.loss(elbo(model, batch, generator), step)
        else:
            loss = -importance_weighted_bound(model, batch, samples, generator, samples_per_pass=samples).mean()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def measure(model: VAE, test: torch.Tensor, num_samples: int) -> dict[str, float]:
    """What the table has of a model."""
    generator = torch.Generator().manual_seed(123)
    log_p, bounds, means = [], [], []
    for batch in tqdm(test.split(50), desc="test"):
        log_p.append(importance_weighted_bound(model, batch, num_samples, generator, samples_per_pass=100))
        bounds.append(elbo(model, batch, generator).value)
        means.append(model.posterior(batch).mean)
    values = torch.cat(log_p).double()
    return {
        "nll_nats": -values.mean().item(),
        "standard_error": (values.std() / len(values) ** 0.5).item(),
        "evaluation_samples": num_samples,
        "negative_elbo_nats": -torch.cat(bounds).mean().item(),
        "active_units": active_units(torch.cat(means)),
        "test_images": len(test),
    }


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--num_importance_samples", type=int, default=1, help="K of the training objective")
    parser.add_argument("--schedule", choices=("paper", "short"), default="paper")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the paper's schedule")
    parser.add_argument("--epochs", type=int, default=300, help="of the short schedule")
    parser.add_argument("--kl_warmup_steps", type=int, default=0, help="of training on the ELBO (K of 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_samples", type=int, default=5000, help="of the evaluation")
    parser.add_argument("--num_test_images", type=int, default=10_000)
    parser.add_argument("--save", type=Path, help="where to keep the weights")
    parser.add_argument("--output", type=Path, help="JSON file of the result")
    options = parser.parse_args()
    objective = TrainingObjective(
        warmup_steps=options.kl_warmup_steps, num_importance_samples=options.num_importance_samples
    )

    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    x = pixels(options.train)[:TRAIN_IMAGES]
    model = VAE(MLPEncoder((1, 28, 28), LATENTS, HIDDEN), MLPDecoder(LATENTS, (1, 28, 28), HIDDEN), Bernoulli())
    with torch.no_grad():
        model.decoder.layers[-1].bias.copy_(torch.logit(x.mean(0).clamp(0.001, 0.999)))
    if options.schedule == "paper":
        epochs = sum(stage_epochs(stage, options.fraction) for stage in range(STAGES))
        steps = paper_steps(x, options.fraction, generator)
        schedule = f"that of the paper, each stage shortened to {options.fraction:g}: batches of {PAPER_BATCH}"
    else:
        epochs, steps = options.epochs, short_steps(x, options.epochs, generator)
        schedule = f"short: batches of {SHORT_BATCH}, Adam at {SHORT_RATE:g} falling to 0 along a cosine"
    start = time.process_time()
    train(model, steps, objective, generator)
    seconds = time.process_time() - start
    if options.save:
        torch.save(model.state_dict(), options.save)

    test = binarise(pixels(options.test), torch.Generator().manual_seed(123))[: options.num_test_images]
    result = {
        **measure(model, test, options.num_samples),
        "num_importance_samples": options.num_importance_samples,
        "schedule": schedule,
        "epochs": epochs,
        "kl_warmup_steps": options.kl_warmup_steps,
        "seed": options.seed,
        "training_cpu_seconds": round(seconds),
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
