"""What happens beside training, each at its own interval."""

from .base import Hook, Step
from .checkpoint import CheckpointHook
from .log import LogHook
from .publish import PublishHook
from .validation import ValidationHook

__all__ = ["CheckpointHook", "Hook", "LogHook", "PublishHook", "Step", "ValidationHook"]
