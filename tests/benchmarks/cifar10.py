"""CIFAR-10 by our VAE and VQ-VAE: bits per dimension and PSNR of the test images, by the size of the latents.

    python tests/benchmarks/cifar10.py --train train-00000-of-00001.parquet --test test-00000-of-00001.parquet

Every model has the same small networks, which halve the image twice (32 to 8 pixels), and the same number of steps. A
VAE has a mixture of discretised logistics as likelihood, so that its bits per dimension bound the code length of the
8-bit pixels from above; a VQ-VAE has PSNR only, and its latents take log2(codes) bits at each of 64 positions. Options
of a run may follow: `--max_train_steps 20000` for better numbers.

The parquet files are CIFAR-10 as on the Hub (column of images as PNG or JPEG bytes): numbers of a copy that was
compressed again are not those of CIFAR-10. What was measured is in `results/`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from report import report
from vae_plugin.finetune import train
from vae_plugin.options import parse
from vae_plugin.training.settings import FinetuneOptions

NETWORKS = "--block_out_channels 16 32 64 --layers_per_block 1 --norm_num_groups 4 --resolution 32"
SCHEDULE = "--max_train_steps 3000 --train_batch_size 32 --learning_rate 2e-3 --lr_scheduler cosine"
POSITIONS = 8 * 8
VAE = "--model_type vae --likelihood logistic_mixture --num_mixtures 5 --latent_channels"
VQVAE = "--model_type vqvae --latent_channels 16 --codebook_size"
KEPT = [
    "bits_per_dim",
    "elbo_nats",
    "kl_nats",
    "psnr",
    "ssim",
    "active_units",
    "perplexity",
    "bits_per_pixel",
    "num_images",
]


def models() -> list[tuple[str, dict[str, int], str]]:
    """Names, sizes of the latents, and options."""
    vaes = [(f"VAE, {POSITIONS * c} numbers", {"numbers": POSITIONS * c}, f"{VAE} {c}") for c in (1, 4, 16)]
    bits = {codes: {"bits": POSITIONS * (codes.bit_length() - 1)} for codes in (64, 1024)}
    return vaes + [(f"VQ-VAE, {codes} codes", size, f"{VQVAE} {codes}") for codes, size in bits.items()]


def main() -> None:
    """Train and measure every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--num_test_images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file of the result, written after every model")
    options, of_run = parser.parse_known_args()
    found: list[dict[str, Any]] = []
    for name, size, words in models():
        with tempfile.TemporaryDirectory() as folder:
            data = ["--train_data_dir", options.train, "--validation_data_dir", options.test]
            data += ["--num_validation_images", str(options.num_test_images), "--validation_steps", str(10**9)]
            where = ["--seed", str(options.seed), "--output_dir", folder]
            start = time.process_time()
            metrics = train(parse(FinetuneOptions, [*f"{NETWORKS} {SCHEDULE} {words}".split(), *data, *where, *of_run]))
            assert metrics is not None
            seconds = round(time.process_time() - start)
        found.append({"model": name, "latents": size, "cpu_seconds": seconds})
        found[-1] |= {key: metrics[key] for key in KEPT if key in metrics}
        result = {"options": " ".join([NETWORKS, SCHEDULE, *of_run]), "seed": options.seed, "models": found}
        report(result, options.output)


if __name__ == "__main__":
    main()
