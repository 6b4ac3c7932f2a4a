"""The folder of a finished run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from .. import pictures
from ..autoencoders import Autoencoder, AutoencoderVQVAE
from ..hub import model_card
from .data import image_batches
from .files import start_partial, write_json, write_text
from .finetune_options import FinetuneOptions
from .options import save as save_options

PICTURES = {
    "reconstructions": "Held-out images (odd rows) and their reconstructions (even rows)",
    "prior": "Decoded samples of the prior",
    "traversal": "One latent moved along one direction per row",
    "tokens": "Held-out images, their codes in false colours, their reconstructions",
    "code_changes": "Reconstructions (odd rows) with another code at one place, and what that changes (even rows)",
}


def save_pictures(model: Autoencoder, images: Dataset, output_dir: Path, prefix: str = "") -> dict[str, str]:
    """OUT/samples/*.png, from the first of these images.

    Returns:
        Caption -> path relative to `output_dir`.
    """
    x = torch.cat(list(image_batches(images, limit=min(len(images), 128))))
    drawn = {
        "reconstructions": pictures.reconstructions(model, x[:32]),
        "prior": pictures.prior_samples(model),
    }
    if isinstance(model, AutoencoderVQVAE):
        drawn["tokens"] = pictures.token_map(model, x[:8])
        drawn["code_changes"] = pictures.code_changes(model, x[:3])
    else:
        drawn["traversal"] = pictures.latent_traversal(model, x)
    paths = {}
    for name, picture in drawn.items():
        path = pictures.save_png(picture, output_dir / "samples" / f"{prefix}{name}.png")
        paths[PICTURES[name]] = path.relative_to(output_dir).as_posix()
    return paths


def save_result(
    model: Autoencoder, metrics: dict[str, Any], images: Dataset, options: FinetuneOptions, output_dir: Path
) -> None:
    """Weights, config, metrics.json, samples, options and the card; each is written beside its place and renamed."""
    staging = start_partial(output_dir / "weights")
    model.save_pretrained(staging)
    for file in sorted(staging.iterdir()):
        os.replace(file, output_dir / file.name)
    staging.rmdir()
    paths = save_pictures(model, images, output_dir)
    write_json(output_dir / "metrics.json", metrics)
    save_options(options, output_dir / "training_options.yaml")
    dataset = "generated circles" if options.dataset_name == "circles" else options.dataset_name or "a folder of images"
    card = model_card(model, metrics, dataset=dataset, pictures=paths)
    write_text(output_dir / "README.md", str(card))
