"""Whether the fields of a config.json can be those of a model, before one is built from them."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import UserError
from ..json_types import declared_types, fits, misfits
from ..wording import either, shown
from .latent_names import names_misfit
from .padding import padding_misfit
from .value_range import range_misfit

COUNTS = re.compile(r"layers_per|^num_(?!vq_embeddings)")  # of modules: many of them are never ready
MOST_MODULES, LARGEST, MOST_ENTRIES = 1024, 1 << 20, 64
LIMITS = {"sample_size": 1 << 14}
MAY_BE_ZERO = re.compile(r"layers_per_block$|^num_\w+_blocks$")  # in a list: a level without them
STATISTICS = ("latents_mean", "latents_std")  # of each channel, or of each number of the latents
COLOURS = ("encoder_norm_mean", "encoder_norm_std")
POSITIVE = ("scaling_factor", "latents_std", "batch_norm_eps")
CHOICES: dict[str, tuple[Any, ...]] = {  # what diffusers would only miss when the model runs
    "upsample_fn": ("nearest", "bilinear", "bicubic", "area"),
    "upsampling_scaling_factor": (2,),
}
SAME_LENGTH = (
    ("down_block_types", "block_out_channels"),
    ("up_block_types", "block_out_channels"),
    ("down_block_types", "down_block_out_channels"),
    ("up_block_types", "up_block_out_channels"),
    ("decoder_block_out_channels", "block_out_channels"),
)


def check_fields(cls: Any, config: Mapping[str, Any], source: str) -> None:
    """Refuse values of the wrong type, out of any range, or that contradict each other.

    Args:
        cls: the class of the model.
        config: the fields; those that the class does not have are left out, apart from `RECORDED`.
        source: where they are from, for the error.

    Raises:
        UserError: naming the first two.
    """
    declared = declared_types(cls.__init__)
    fields = {name: value for name, value in config.items() if name in declared}
    defaults = {name: p.default for name, p in inspect.signature(cls.__init__).parameters.items()}
    wrong = misfits(fields, declared) or [*_out_of_range(fields, declared), *_contradictions({**defaults, **fields})]
    wrong = [*wrong, *filter(None, (padding_misfit(config), range_misfit(config), names_misfit(config)))]
    if wrong:
        more = f" (and {len(wrong) - 2} more)" if len(wrong) > 2 else ""
        raise UserError(f"{source} is not the configuration of an {cls.__name__}: {'; '.join(wrong[:2])}{more}.")


def _out_of_range(fields: Mapping[str, Any], declared: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        listed = isinstance(value, (list, tuple))
        if listed and len(value) > MOST_ENTRIES and name not in STATISTICS:
            yield f"{name} has {len(value):,} entries, expected at most {MOST_ENTRIES}"
        if name in (*STATISTICS, *COLOURS) and value is not None and not (listed and _only_numbers(value)):
            yield f"{name} is {shown(value)}, expected a list of numbers"
        if name in CHOICES and value not in CHOICES[name]:
            yield f"{name} is {shown(value)}, expected {either(map(str, CHOICES[name]))}"
        if name in POSITIVE and any(not number > 0 for number in _numbers(value)):
            yield f"{name} is {shown(value)}, expected above 0"
        if _is_count(declared[name]):
            least = 0 if listed and MAY_BE_ZERO.search(name) else 1
            most = MOST_MODULES if COUNTS.search(name) else LIMITS.get(name, LARGEST)
            if any(not least <= number <= most for number in _numbers(value)):
                yield f"{name} is {shown(value)}, expected {least} to {most:,}"


def _is_count(annotation: Any) -> bool:
    """Whether a field holds whole numbers: sizes of something, all of them."""
    return annotation is int or any(map(_is_count, typing.get_args(annotation)))


def _contradictions(fields: Mapping[str, Any]) -> Iterator[str]:
    for name in ("latents_mean", "latents_std"):
        values, channels = fields.get(name), fields.get("latent_channels")
        if values is not None and channels is not None and len(values) != channels:
            yield f"{name} has {len(values)} entries for {channels} latent_channels"
    for one, other in SAME_LENGTH:
        if fields.get(one) is not None and fields.get(other) is not None and len(fields[one]) != len(fields[other]):
            yield f"{one} has {len(fields[one])} entries, and {other} {len(fields[other])}"
    low_high = fields.get("image_range")
    if low_high is not None and not low_high[0] < low_high[1]:
        yield f"image_range is {shown(low_high)}, expected the value of black below that of white"


def _only_numbers(value: Any) -> bool:
    """Whether a value is a number, or a list of such values."""
    return all(map(_only_numbers, value)) if isinstance(value, (list, tuple)) else fits(value, float)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
