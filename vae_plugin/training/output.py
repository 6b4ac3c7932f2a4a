"""The folder of a finished run."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch.utils.data import Dataset

from .. import pictures
from ..autoencoders import AutoencoderVQVAE
from ..autoencoders.interface import OURS, evaluation_mode
from ..autoencoders.interface import reconstruct as reconstruct_by_mode
from ..autoencoders.loading import as_saved
from ..datasets import ImageStream
from ..export.remote_code import write_remote_code
from ..files import finish_partial, start_partial, write_json
from ..hub import RunRecord, write_card
from ..options import save as save_options
from .data import image_batches
from .finetune_options import FinetuneOptions
from .trained_part import merge_lora

PICTURES = {
    "reconstructions": "Held-out images (odd rows) and their reconstructions (even rows)",
    "prior": "Decoded samples of the prior",
    "traversal": "One latent moved along one direction per row",
    "tokens": "Held-out images, their codes in false colours, their reconstructions",
    "extremes": "The three worst, the three middle and the three best held-out images by PSNR, their reconstructions, "
    "and four times the error",
    "code_changes": "Reconstructions (odd rows) with another code at one place, and what that changes (even rows)",
}


def save_pictures(
    model: ModelMixin,
    images: Dataset,
    output_dir: Path,
    prefix: str = "",
    reconstruct: Callable[[ModelMixin, torch.Tensor], torch.Tensor] = reconstruct_by_mode,
) -> dict[str, str]:
    """OUT/samples/*.png, from the first of these images; of a model that is not ours the reconstructions only.

    Returns:
        Caption -> path relative to `output_dir`.
    """
    x = torch.cat(list(image_batches(images, limit=min(len(images), 128))))
    with evaluation_mode(model):
        drawn = {"reconstructions": pictures.reconstructions(model, x[:32], reconstruct=reconstruct)}
        if isinstance(model, OURS):
            drawn["prior"] = pictures.prior_samples(model)
        if isinstance(model, AutoencoderVQVAE):
            drawn["tokens"] = pictures.token_map(model, x[:8])
            drawn["code_changes"] = pictures.code_changes(model, x[:3])
        elif isinstance(model, OURS):
            drawn["traversal"] = pictures.latent_traversal(model, x)
    paths = {}
    for name, picture in drawn.items():
        path = pictures.save_png(picture, output_dir / "samples" / f"{prefix}{name}.png")
        paths[PICTURES[name]] = path.relative_to(output_dir).as_posix()
    return paths


def save_model(model: ModelMixin, folder: Path, remote_code: bool = False) -> None:
    """Weights and configuration of a model that is being trained, which is left as it is."""
    copied = copy.deepcopy(model)
    merge_lora(copied)
    as_saved(copied).save_pretrained(folder)
    if remote_code:
        write_remote_code(folder)


def save_best(model: ModelMixin, metrics: dict[str, Any], output_dir: Path) -> None:
    """OUT/best: the weights of the best evaluation so far and its numbers."""
    staging = start_partial(output_dir / "best")
    save_model(model, staging)
    write_json(staging / "metrics.json", metrics)
    finish_partial(output_dir / "best")


def save_result(
    model: ModelMixin,
    metrics: dict[str, Any],
    psnr: list[float],
    images: Dataset,
    options: FinetuneOptions,
    record: Callable[[dict[str, str]], RunRecord],
    reconstruct: Callable[[ModelMixin, torch.Tensor], torch.Tensor] = reconstruct_by_mode,
) -> None:
    """Weights, config, metrics.json, samples, options and the card; each is written beside its place and renamed.

    Args:
        model: the result.
        metrics: of it.
        psnr: of the reconstruction of each image that can be read.
        images: held out.
        options: of the run, which say where.
        record: makes the record of the run, of the pictures in it (caption -> path).
        reconstruct: of the loss.
    """
    output_dir = Path(options.output_dir)
    staging = start_partial(output_dir / "weights")
    as_saved(model).save_pretrained(staging)
    if options.export_remote_code:
        write_remote_code(staging)
    for file in sorted(staging.iterdir()):
        os.replace(file, output_dir / file.name)
    staging.rmdir()
    paths = save_pictures(model, images, output_dir, reconstruct=reconstruct)
    paths |= save_extremes(model, psnr, images, output_dir, reconstruct)
    write_json(output_dir / "metrics.json", metrics)
    save_options(options, output_dir / "training_options.yaml")
    record(paths).save(output_dir)
    write_card(output_dir)


def save_extremes(
    model: ModelMixin,
    psnr: list[float],
    images: Dataset,
    output_dir: Path,
    reconstruct: Callable[[ModelMixin, torch.Tensor], torch.Tensor],
    each: int = 3,
) -> dict[str, str]:
    """OUT/samples/extremes.png: the worst images by PSNR, those in the middle, and the best; none is picked by hand."""
    order = sorted(range(len(psnr)), key=psnr.__getitem__)
    middle = max(0, (len(order) - each) // 2)
    chosen = list(dict.fromkeys([*order[:each], *order[middle : middle + each], *order[-each:]]))
    one_by_one = (image for batch in image_batches(images) for image in batch)
    found = {i: image for i, image in enumerate(one_by_one) if i in chosen}
    with evaluation_mode(model):
        picture = pictures.extremes(model, torch.stack([found[i] for i in chosen]), reconstruct)
    path = pictures.save_png(picture, output_dir / "samples" / "extremes.png")
    return {PICTURES["extremes"]: path.relative_to(output_dir).as_posix()}


def report_unreadable(names: set[str], train_set: Dataset | ImageStream) -> None:
    """Say which files were left out."""
    owner = getattr(train_set, "dataset", train_set)
    ignored = list(getattr(owner, "ignored_files", ()))
    for kind, files in (("could not be read as images", sorted(names)), ("are not images", sorted(map(str, ignored)))):
        if files:
            print(f"{len(files)} file(s) {kind} and were skipped: {', '.join(files[:20])}{' ...' * (len(files) > 20)}")
