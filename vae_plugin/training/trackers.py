"""Pictures in the trackers: each of them wants them in another way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from PIL import Image


def log_pictures(accelerator: Accelerator, pictures: Mapping[str, Path], step: int) -> None:
    """Show picture files in every tracker of the run; on the main process only.

    Args:
        accelerator: with its trackers started.
        pictures: name -> file.
        step: optimiser steps done.
    """
    for tracker in accelerator.trackers:
        for name, path in pictures.items():
            if tracker.name == "tensorboard":
                with Image.open(path) as image:
                    tracker.log_images({name: np.asarray(image.convert("RGB"))[None]}, step=step, dataformats="NHWC")
            elif tracker.name == "wandb":
                with Image.open(path) as image:
                    tracker.log_images({name: [image.convert("RGB")]}, step=step)
            elif tracker.name == "trackio":
                import trackio

                tracker.log({name: trackio.Image(str(path))}, step=step)
