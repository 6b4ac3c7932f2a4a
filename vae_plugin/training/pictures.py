"""The pictures that a run leaves in OUT/samples, and those of its tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset

from .. import pictures
from ..autoencoders import Adapter, evaluation_mode
from ..datasets import ImageDataset, image_batches
from ..datasets.framing import Framing
from ..datasets.reading import DEFAULT_READER
from ..datasets.transforms import to_pil, to_uint8
from ..files import replacing_file
from ..metrics import Evaluation
from .evaluation import on_device_of
from .failures import writing
from .losses import TrainingLoss

CAPTIONS = {
    "reconstructions": "Held-out images (odd rows) and their reconstructions (even rows)",
    "example": "A held-out image",
    "example-decoded": "What the code above gives for it",
    "prior": "Decoded samples of the prior",
    "traversal": "One latent moved along one direction per row",
    "indices": "Held-out images, the indices of their codes in false colours, their reconstructions",
    "extremes": "The three worst, the three middle and the three best held-out images by PSNR, their reconstructions, "
    "and four times the error",
    "code_changes": "Reconstructions (odd rows) with another code at one position, and what that changes (even rows)",
}
BESIDE_BASE = {
    "reconstructions": "Held-out images, their reconstructions by the base model, and those by this one, row by row"
}
MOST_IMAGES = 128
SHOWN = 32  # of the images held out, in the sheet of reconstructions
EACH_EXTREME = 3


class SamplePictures:
    """Draws what a model does with the images held out.

    Args:
        loss: of the model, which says what its reconstruction is.
        images: held out; of whole images of several sizes the centre squares are shown.
        output_dir: of the run.
    """

    def __init__(self, loss: TrainingLoss, images: Dataset, output_dir: Path) -> None:
        if isinstance(images, ImageDataset) and images.framing.buckets:
            images = images.framed(Framing(images.framing.resolution).centred())
        self.loss, self.images = loss, images
        self.base_file = output_dir / "logs" / "base-pictures.safetensors"

    @torch.no_grad()
    def keep_base(self, base: Adapter | None = None) -> None:
        """Keep what the model reconstructs before its first step, to show it beside the result's reconstructions.

        Args:
            base: of another model, whose reconstructions are kept instead.
        """
        adapter = self.loss.adapter
        x = self._first(SHOWN).to(adapter.model.device, adapter.model.dtype)
        with (
            on_device_of(adapter, base),
            evaluation_mode((base or adapter).model),
            writing("a picture", self.base_file),
            replacing_file(self.base_file) as partial,
        ):
            pixels = to_uint8((base or self.loss).reconstruct(x).cpu()).contiguous()
            save_file({"reconstructions": pixels}, partial)

    def save(self, folder: Path, prefix: str = "") -> dict[str, str]:
        """FOLDER/samples/*.png: reconstructions, and more of a model with a likelihood.

        Returns:
            Caption -> path relative to the folder.

        Raises:
            StepFailed: if they cannot be written.
        """
        adapter, model = self.loss.adapter, self.loss.adapter.model
        x = self._first(MOST_IMAGES)
        with evaluation_mode(model):
            base = self._base_reconstructions(x[:SHOWN])
            drawn = {"reconstructions": pictures.reconstructions(adapter, x[:SHOWN], 8, self.loss.reconstruct, base)}
            if not prefix:
                drawn |= self._example(x[0])
            if adapter.likelihood is not None:
                drawn["prior"] = pictures.prior_samples(model)
                if adapter.discrete:
                    drawn["indices"] = pictures.index_map(model, x[:8])
                    drawn["code_changes"] = pictures.code_changes(model, x[:3])
                else:
                    drawn["traversal"] = pictures.latent_traversal(model, x)
        captions = {**CAPTIONS, **({} if base is None else BESIDE_BASE)}
        return {captions[name]: _write(picture, folder, f"{prefix}{name}.png") for name, picture in drawn.items()}

    def save_extremes(self, folder: Path, evaluation: Evaluation) -> dict[str, str]:
        """FOLDER/samples/extremes.png: the images worst by PSNR, in the middle, and best; none is picked by hand.

        Args:
            folder: of the result.
            evaluation: of the model on these images.
        """
        psnr = evaluation.per_image["psnr"]
        order = sorted(range(len(psnr)), key=psnr.__getitem__)
        middle = max(0, (len(order) - EACH_EXTREME) // 2)
        ends = [*order[:EACH_EXTREME], *order[middle : middle + EACH_EXTREME], *order[-EACH_EXTREME:]]
        chosen = list(dict.fromkeys(ends))
        found = torch.stack([self.images[evaluation.numbers[i]]["pixel_values"] for i in chosen])
        adapter = self.loss.adapter
        with evaluation_mode(adapter.model):
            picture = pictures.extremes(adapter, found, self.loss.reconstruct)
        return {CAPTIONS["extremes"]: _write(picture, folder, "extremes.png")}

    def _first(self, most: int) -> torch.Tensor:
        """The first images, (N, C, H, W), `most` of them or all."""
        limit = min(len(self.images), most)  # type: ignore[arg-type]
        return torch.cat(list(image_batches(self.images, limit=limit)))

    def _base_reconstructions(self, x: torch.Tensor) -> torch.Tensor | None:
        """What `keep_base` kept, in [-1, 1]; None if that is nothing, or of other images than x."""
        if not self.base_file.exists():
            return None
        try:
            kept = load_file(self.base_file)["reconstructions"]
        except (SafetensorError, KeyError):  # damaged: the sheet is drawn without it
            return None
        return kept / 127.5 - 1 if kept.shape == x.shape else None

    def _example(self, image: torch.Tensor) -> dict[str, Image.Image]:
        """A picture, and what the code of the card gives for it; of gray and RGB images."""
        ratio = self.loss.adapter.spatial_compression_ratio
        if len(image) not in (1, 3) or any(side % ratio for side in image.shape[1:]):
            return {}
        picture = to_pil(image)
        return {"example": picture, "example-decoded": pictures.round_trip(self.loss.adapter, picture)}


def _write(picture: Image.Image, folder: Path, name: str) -> str:
    path = folder / "samples" / name
    with writing("a picture", path):
        pictures.save_png(picture, path)
    return path.relative_to(folder).as_posix()


def log_pictures(accelerator: Accelerator, paths: Mapping[str, Path], step: int) -> None:
    """Show picture files in every tracker of the run, each in the way of that tracker; on the main process only.

    Args:
        accelerator: with its trackers started.
        paths: name -> file.
        step: optimiser steps done.
    """
    for tracker in accelerator.trackers:
        for name, path in paths.items():
            if tracker.name == "tensorboard":
                pixels = np.asarray(DEFAULT_READER.open(path).convert("RGB"))
                tracker.log_images({name: pixels[None]}, step=step, dataformats="NHWC")
            elif tracker.name == "wandb":
                tracker.log_images({name: [DEFAULT_READER.open(path).convert("RGB")]}, step=step)
            elif tracker.name == "trackio":
                import trackio

                tracker.log({name: trackio.Image(str(path))}, step=step)
