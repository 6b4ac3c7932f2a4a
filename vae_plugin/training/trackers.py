"""The tracker that the curves of a run are sent to."""

from __future__ import annotations

import os

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from ..errors import UserError
from ..options import to_dict
from .settings import FinetuneOptions, OutputSettings

PROJECT = "logs"  # which is also the folder of TensorBoard's files
WANDB_PROJECT = "WANDB_PROJECT"  # of the environment, which accelerate would override


def check_tracker(settings: OutputSettings) -> None:
    """Refuse a tracker whose package is missing: accelerate would only warn, and train without it.

    Raises:
        UserError: for such a tracker.
    """
    name = settings.report_to
    if name is not None and name not in [str(tracker) for tracker in get_available_trackers()]:
        raise UserError(f"--report_to {name} needs a package that is not installed: pip install 'vae-plugin[{name}]'.")


def start_tracker(accelerator: Accelerator, options: FinetuneOptions) -> None:
    """Start the tracker of a run, if there is one.

    Raises:
        UserError: if it cannot be started, as without a login.
    """
    output = options.output
    if output.report_to is None:
        return
    values = {name: value for name, value in to_dict(options).items() if isinstance(value, (int, float, str))}
    try:
        accelerator.init_trackers(project_name(output), config=values)
    except Exception as error:  # of a service and its client
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--report_to {output.report_to} cannot be started: {reason}") from error


def project_name(settings: OutputSettings) -> str:
    """The project of the tracker: that of the options, for W&B that of the environment, or "logs"."""
    said = os.environ.get(WANDB_PROJECT) if settings.report_to == "wandb" else None
    return settings.tracker_project_name or said or PROJECT
