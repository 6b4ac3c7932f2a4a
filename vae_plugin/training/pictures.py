"""The pictures that a run leaves in OUT/samples, and those of its tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import Dataset

from .. import pictures
from ..autoencoders import evaluation_mode
from ..datasets import image_batches
from ..metrics import Evaluation
from .losses import TrainingLoss

CAPTIONS = {
    "reconstructions": "Held-out images (odd rows) and their reconstructions (even rows)",
    "prior": "Decoded samples of the prior",
    "traversal": "One latent moved along one direction per row",
    "indices": "Held-out images, the indices of their codes in false colours, their reconstructions",
    "extremes": "The three worst, the three middle and the three best held-out images by PSNR, their reconstructions, "
    "and four times the error",
    "code_changes": "Reconstructions (odd rows) with another code at one position, and what that changes (even rows)",
}
MOST_IMAGES = 128
EACH_EXTREME = 3


class SamplePictures:
    """Draws what a model does with the images held out.

    Args:
        loss: of the model, which says what its reconstruction is.
        images: held out.
        output_dir: of the run.
    """

    def __init__(self, loss: TrainingLoss, images: Dataset, output_dir: Path) -> None:
        self.loss, self.images, self.output_dir = loss, images, output_dir

    def save(self, prefix: str = "") -> dict[str, str]:
        """OUT/samples/*.png; of a model without a likelihood the reconstructions only.

        Returns:
            Caption -> path relative to the output folder.
        """
        adapter, model = self.loss.adapter, self.loss.adapter.model
        limit = min(len(self.images), MOST_IMAGES)  # type: ignore[arg-type]
        x = torch.cat(list(image_batches(self.images, limit=limit)))
        with evaluation_mode(model):
            drawn = {"reconstructions": pictures.reconstructions(adapter, x[:32], reconstruct=self.loss.reconstruct)}
            if adapter.likelihood is not None:
                drawn["prior"] = pictures.prior_samples(model)
                if adapter.discrete:
                    drawn["indices"] = pictures.index_map(model, x[:8])
                    drawn["code_changes"] = pictures.code_changes(model, x[:3])
                else:
                    drawn["traversal"] = pictures.latent_traversal(model, x)
        return {CAPTIONS[name]: self._write(picture, f"{prefix}{name}.png") for name, picture in drawn.items()}

    def save_extremes(self, evaluation: Evaluation) -> dict[str, str]:
        """OUT/samples/extremes.png: the worst images by PSNR, those in the middle, and the best; none picked by hand.

        Args:
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
        return {CAPTIONS["extremes"]: self._write(picture, "extremes.png")}

    def _write(self, picture: Image.Image, name: str) -> str:
        path = pictures.save_png(picture, self.output_dir / "samples" / name)
        return path.relative_to(self.output_dir).as_posix()


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
                with Image.open(path) as image:
                    tracker.log_images({name: np.asarray(image.convert("RGB"))[None]}, step=step, dataformats="NHWC")
            elif tracker.name == "wandb":
                with Image.open(path) as image:
                    tracker.log_images({name: [image.convert("RGB")]}, step=step)
            elif tracker.name == "trackio":
                import trackio

                tracker.log({name: trackio.Image(str(path))}, step=step)
