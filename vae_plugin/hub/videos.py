"""What training on images did to the videos of a model, in a sentence."""

from __future__ import annotations

from .record import RunRecord
from .results import Results


def videos_lost(results: Results, record: RunRecord, kind: type[str] = str) -> str | None:
    """The sentence about what short clips have lost; None where that was not measured, or nothing was lost.

    Args:
        results: of the run.
        record: of the run.
        kind: `Markdown` for text in which the facts are escaped.
    """
    loss = results.clip_loss()
    if loss is None:
        return None
    return kind(
        "It was trained on single images, and videos come back worse than by {}: in short clips the frames after the "
        "first lost {}."
    ).format(record.base_model or "the base model", loss)


def after_training_on_images(results: Results, record: RunRecord) -> str | None:
    """The sentence about short clips for the end of a run; None of a class of images."""
    measured, gain = results.written("clip_psnr"), results.clip_gain()
    if measured is None:
        return None
    difference = "" if gain is None else f", {gain} against the model before its first step"
    lost = videos_lost(results, record)
    return lost or f"In short clips the frames after the first have a PSNR of {measured} dB{difference}."
