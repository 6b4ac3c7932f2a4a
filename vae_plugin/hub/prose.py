"""The sentences of a card."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..datasets.transforms import bands_to_show
from ..json_types import fits
from .record import RunRecord
from .results import Results, duration, written
from .text import Markdown, in_code

HUB = "https://huggingface.co"
CUT = {  # by the crop of a run
    "native": "at {} only, cut out of larger images without resizing them",
    "multiscale": "at {} only, cut out of larger images at random scales",
    "whole": "on whole images of about {} only, of several aspect ratios",
}


def title(name: str, record: RunRecord, shapes: str) -> Markdown:
    """What the model is: its kind, its origin, its data, and the shapes of images and latents."""
    text = Markdown(name)
    if record.teacher:
        text += Markdown(" distilled from {}").format(record.teacher)
    elif record.decoder:
        text += Markdown(" with a new decoder for the latents of {}, trained").format(record.base_model)
    elif record.base_model:
        part = "" if record.part == "all" else f", {record.part}"
        text += Markdown(part + " fine-tuned from {}").format(record.base_model)
    elif record.dataset:
        text += Markdown(" trained")
    if record.dataset:
        text += Markdown(" on {}").format(record.dataset)
    return text + Markdown(": " + shapes)


def origin(class_name: str, record: RunRecord, results: Results) -> Markdown:
    """A sentence about how the model came about, or about what it is where nobody knows."""
    name = in_code(class_name)
    if record.decoder:
        text = Markdown("This {} has the encoder of {}, to the bit, and a new decoder for its latents, trained").format(
            name, _base(record)
        )
    elif record.base_model:
        text = Markdown("This {} was fine-tuned from {}").format(name, _base(record))
    elif record.dataset:
        text = Markdown("This {} was trained from scratch").format(name)
    else:
        return Markdown(f"This is {'an' if class_name[0] in 'AEIOU' else 'a'} {{}}.").format(name)
    if record.dataset:
        text += Markdown(" on {}").format(_linked(record.dataset, record.dataset_id, "datasets/"))
    steps = results["steps"]
    return text + Markdown("." if steps is None else f" for {written(steps)} steps.")


def value_range(found: tuple[float, float] | None) -> Markdown:
    """What values of files the model takes as -1 and 1; empty where their type says it."""
    if found is None:
        return Markdown("")
    low, high = (f"{value:g}" for value in found)
    return Markdown(
        " The values {} to {} of image files are -1 to 1 to the model (`_value_range` in its config): convert values v "
        "by 2 (v - {}) / ({} - {}) - 1."
    ).format(low, high, low, high, low)


def shown_bands(channels: int) -> Markdown:
    """Which channels pictures show, counted from 0; empty where they show all."""
    bands = bands_to_show(channels)
    if bands is None:
        return Markdown("")
    if len(bands) == 1:
        return Markdown(" Its pictures show channel {} of an image, counted from 0, in gray.").format(*bands)
    text = Markdown(" Its pictures show channels {}, {} and {} of an image, counted from 0, as red, green and blue.")
    return text.format(*bands)


def what_was_trained(record: RunRecord, results: Results) -> Markdown:
    """The part that was trained, and from whom; empty where that is everything."""
    text = Markdown("")
    if record.decoder:
        text += Markdown(" A denoiser trained on the latents of {} works with this model.").format(record.base_model)
        text += _new_decoder(record, results)
    elif record.part == "decoder" and record.base_model:
        text += Markdown(
            " Only the decoder was trained: the latents are exactly those of {}, and a denoiser trained on them works "
            "with this model."
        ).format(record.base_model)
    elif record.part == "encoder":
        text += Markdown(" Only the encoder was trained.")
    if record.teacher:
        text += Markdown(
            " It was trained to encode and decode the latents of {} as a pipeline sees them, shifted and scaled."
        ).format(record.teacher)
    return text


def _new_decoder(record: RunRecord, results: Results) -> Markdown:
    """What a new decoder is and costs beside the one of the base model, and what is lost."""
    widths, were = (" ".join(map(str, record.decoder.get(name) or ())) for name in ("block_out_channels", "was"))
    text = Markdown(" The decoder has {} channels at its levels instead of {}.").format(widths, were)
    time, memory, before = (
        results[name] for name in ("decode_time_ratio", "decode_memory_mib", "base_decode_memory_mib")
    )
    if time is None:
        return text
    size = f" of {record.resolution} × {record.resolution} pixels" if record.resolution else ""
    text += Markdown(f" It decodes an image{size} in {time:.3g} times the time")
    if memory is not None and before:
        text += Markdown(f" and {memory / before:.3g} times the memory, its weights included")
    text += Markdown(" (on {}, in float32").format(record.decoder.get("device"))
    pairs, low, high = (results.written(name) for name in ("decode_pairs", "decode_time_low", "decode_time_high"))
    text += Markdown(f"; median of {pairs} pairs, the middle half from {low} to {high})" if pairs else ")")
    gain = results.gain()
    return text + Markdown("." if gain is None else f", for {gain}.")


def lab(record: RunRecord) -> Markdown | None:
    """A link to the Space that shows the lab of the model; None where there is none."""
    valid = hub_id(record.lab)
    return None if valid is None else _linked("its latent space", valid, "spaces/")


def limits(results: Results, record: RunRecord) -> list[Markdown]:
    """Limitations that were measured."""
    found = []
    spread = [results.written(f"psnr_{name}") for name in ("worst", "median", "best")]
    if None not in spread:
        worst, median, best = spread
        count = results.written("num_images")
        found.append(
            f"The worst of the {f'{count} ' if count else ''}reconstructions has a PSNR of {worst} dB (median "
            f"{median}, best {best})" + (", see the picture of extremes." if picture(record, "extremes.png") else ".")
        )
    if results["dead_codes"]:
        positions = results.written("codebook_positions")
        counted = "" if positions is None else f" at any of the {positions} positions counted"
        found.append(f"{results.written('dead_codes')} codes were not used{counted}.")
    if record.resolution:
        size = f"{record.resolution} × {record.resolution} pixels"
        found.append(f"Trained and measured {CUT.get(record.crop or '', 'at {} only').format(size)}.")
    return [Markdown(line) for line in found]


def training(results: Results, record: RunRecord) -> dict[str, Any]:
    """Circumstances of the training, by name."""
    rows: dict[str, Any] = {"images": f"{record.train_images:,}"} if record.train_images else {}
    rows |= {in_code(f"--{name}"): in_code(_as_typed(value)) for name, value in record.options.items()}
    if record.num_processes and record.device:
        rows["processes"] = f"{record.num_processes} ({record.device})"
    if record.mixed_precision:
        rows["precision"] = "float32" if record.mixed_precision == "no" else f"{record.mixed_precision} (mixed)"
    if record.seconds:
        rows["time"] = duration(record.seconds)
    if (speed := results.written("images_per_second")) is not None:
        rows["images per second"] = speed
    if record.best.get("step") is not None:
        value = record.best.get("value")
        value = written(value) if isinstance(value, (int, float)) and fits(value, float) else value
        rows["best evaluation"] = Markdown("{} {} at step {}{}").format(
            record.best.get("metric"),
            value,
            record.best["step"],
            ", whose weights are the result" if record.best.get("is_result") else "; the result has the last weights",
        )
    if record.versions:
        rows["versions"] = Markdown(", ").join(Markdown("{} {}").format(*item) for item in record.versions.items())
    if record.commit:
        rows["commit of vae-plugin"] = in_code(record.commit)
    return rows


def _as_typed(value: Any) -> str:
    """The value of an option as somebody would type it."""
    if isinstance(value, list):
        return " ".join(map(_as_typed, value))
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def pictures(record: RunRecord, besides: Collection[str] = ()) -> list[dict[str, str]]:
    """Caption and path of every picture, but for those of some file names."""
    found = {caption: path for caption, path in record.pictures.items() if path.rpartition("/")[2] not in besides}
    return [{"caption": caption, "path": Markdown(quote(path))} for caption, path in found.items()]


def picture(record: RunRecord, name: str) -> dict[str, str] | None:
    """Caption and path of the picture of that file name; None if there is none."""
    return next((found for found in pictures(record) if found["path"].rpartition("/")[2] == name), None)


def hub_id(name: str | None) -> str | None:
    """The name, if it can be that of a repository on the Hub."""
    try:
        validate_repo_id(name or "")
    except HFValidationError:
        return None
    return name


def _base(record: RunRecord) -> Markdown:
    text = _linked(record.base_model, record.base_model_id)
    return text + Markdown(" (commit {})").format(in_code(record.base_revision)) if record.base_revision else text


def _linked(name: str | None, repository: str | None, place: str = "") -> Markdown:
    """A name, with a link to its place on the Hub where it has one."""
    valid = hub_id(repository)
    if valid is None:
        return Markdown.escape(name)
    return Markdown(f"[{{}}]({HUB}/{place}{quote(valid)})").format(name if place else valid)
