"""Publishing of autoencoders on the Hub, with cards that report what was measured."""

from ..errors import PushError
from .card import model_card
from .push import check_card, push, write_card
from .record import RunRecord
from .results import METRICS

__all__ = ["METRICS", "PushError", "RunRecord", "check_card", "model_card", "push", "write_card"]
