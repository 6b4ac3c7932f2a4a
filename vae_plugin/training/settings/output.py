"""Where the result of a run goes, and what is saved and measured on the way."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import GIVEN, option

TRACKERS = ("tensorboard", "wandb", "trackio")


@dataclass
class OutputSettings:
    """Settings of the output of a run."""

    output_dir: str = option(
        "vae-output", "Folder of the result, which from_pretrained opens.", path=True, common=True, on_resume=True
    )
    checkpointing_steps: int = option(500, "Steps between checkpoints.", at_least=1, on_resume=True)
    checkpoints_total_limit: int = option(
        3, "Number of checkpoints to keep, the newest ones.", at_least=1, on_resume=True
    )
    resume_from_checkpoint: str | None = option(
        None,
        "Checkpoint to resume from: 'latest', a name in OUT/checkpoints, or a path.",
        path=True,
        common=True,
        on_resume=True,
    )
    validation_steps: int | None = option(
        None, "Steps between evaluations during training. By default there are none.", at_least=1, on_resume=True
    )
    best_metric: str | None = option(
        None,
        "Metric of the evaluations that decides which weights are kept in OUT/best. By default the perceptual distance "
        "where there is one, the first of several, and psnr otherwise.",
        when={"validation_steps": GIVEN},
        on_resume=True,
        since="0.2",
    )
    load_best_model_at_end: bool = option(
        False,
        "Make the weights of the best evaluation the result, rather than the last ones.",
        when={"validation_steps": GIVEN, "lora_rank": (None,)},  # whose weights beside the result are the last ones
        on_resume=True,
        since="0.2",
    )
    report_to: str | None = option(None, "Tracker that the curves are sent to.", choices=TRACKERS, on_resume=True)
    tracker_project_name: str | None = option(
        None,
        "Project of the tracker. By default that of WANDB_PROJECT for wandb, or else 'logs'.",
        when={"report_to": ("wandb", "trackio")},
        on_resume=True,
        since="0.2",
    )
    latent_scaling: str = option(
        "auto",
        "Whether to write the latent statistics of the training data (into the weights of our own models, into the "
        "config of others) or to keep those of the model. 'auto' keeps them if the latent space is meant to stay: "
        "with --train decoder or encoder, --latent_anchor or --teacher.",
        choices=("auto", "write", "keep"),
        on_resume=True,
    )
