"""A step that cannot be taken, raised where it is found and told in one place: `checkpoints.stopped`."""

from __future__ import annotations

LOWER_RATE = "A lower --learning_rate, a longer --lr_warmup_steps, or --mixed_precision no may help"


class StepFailed(RuntimeError):
    """Training cannot continue; nothing was changed by the step that failed.

    Args:
        reason: what went wrong, without its step.
        remedy: what may help.
    """

    def __init__(self, reason: str, remedy: str = LOWER_RATE) -> None:
        super().__init__(reason)
        self.remedy = remedy
