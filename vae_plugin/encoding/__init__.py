"""Encoding a data set once: its latents as files that trainers of diffusion models read."""

from .facts import data_facts, model_facts
from .plan import CONTENTS, Plan, plan_for
from .run import Work, encode

__all__ = ["CONTENTS", "Plan", "Work", "data_facts", "encode", "model_facts", "plan_for"]
