"""How far the latents of circles are x, y and radius: the mutual information gap (MIG) over several seeds.

    python tests/benchmarks/disentangled_circles.py --config examples/circles-disentangled.yaml --output result.json

Trains once for each of `--seeds`, and measures the posterior means of 10,000 new circles. Options of a run may follow:
`--beta 1 --tc_weight 1` is the VAE that this is compared with. What was measured is in `results/`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from report import report
from vae_plugin import AutoencoderVAE
from vae_plugin.datasets import Circles
from vae_plugin.finetune import train
from vae_plugin.metrics.disentanglement import information, mig
from vae_plugin.options import parse
from vae_plugin.training.settings import FinetuneOptions

MEASURED, MEASURED_SEED = 10_000, 10**6  # circles that no run is trained on


@torch.no_grad()
def measure(folder: str) -> dict[str, Any]:
    """MIG, and the part of each factor that each latent tells."""
    model = AutoencoderVAE.from_pretrained(folder).eval()
    hue = model.config.in_channels == 3
    circles = Circles(MEASURED, model.config.sample_size, model.config.in_channels, seed=MEASURED_SEED, hue=hue)
    posteriors = [model.posterior(circles.render(factors)) for factors in circles.factors.split(500)]
    codes = torch.cat([q.mean for q in posteriors]).flatten(1)
    kl = torch.cat([q.kl_per_dimension() for q in posteriors]).flatten(1).mean(0)
    shares = information(codes, circles.factors).normalised
    return {
        "mig": mig(codes, circles.factors),
        "factors": list(circles.factor_names),
        "share_of_each_factor_by_latent": [[round(value, 3) for value in row] for row in shares.tolist()],
        "kl_nats_by_latent": [round(value, 3) for value in kl.tolist()],
    }


def main() -> None:
    """Train and measure every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output", type=Path, help="JSON file of the result, written after every seed")
    options, of_run = parser.parse_known_args()
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            words = [*of_run, "--seed", str(seed), "--output_dir", folder]
            start = time.process_time()
            metrics = train(parse(FinetuneOptions, words))
            assert metrics is not None
            seconds = time.process_time() - start
            runs.append({"seed": seed, **measure(folder), "elbo_nats": metrics["elbo_nats"]})
            runs[-1]["training_cpu_seconds"] = round(seconds)
        gaps = [run["mig"] for run in runs]
        result = {
            "command": " ".join(["python tests/benchmarks/disentangled_circles.py", *sys.argv[1:]]),
            "mig_mean": statistics.mean(gaps),
            "mig_std": statistics.stdev(gaps) if len(gaps) > 1 else None,
            "mig_least": min(gaps),
            "mig_most": max(gaps),
            "runs": runs,
        }
        report(result, options.output)


if __name__ == "__main__":
    main()
