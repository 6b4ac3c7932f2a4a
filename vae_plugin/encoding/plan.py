"""What is written of each image, and how."""

from __future__ import annotations

from dataclasses import dataclass

from ..autoencoders import Adapter
from ..datasets.latents import LAYOUTS, Layout
from ..errors import UserError

CONTENTS = ("posterior", "samples", "indices")
SHARD_SIZE = 1000


@dataclass(frozen=True)
class Plan:
    """What is written.

    Attributes:
        format: name of the layout.
        content: "posterior", the mean and log-variance of q(z|x); "samples", one sample of it, or the latents of a
            model that is deterministic, or those before quantisation; "indices" of a codebook.
        flips: whether the mirrored image is encoded too.
        scaled: whether samples are as pipelines give them to their denoiser.
        dtype: of the latents in the files.
        shard_size: images of a shard, those that cannot be read included.
        seed: of the samples.
    """

    format: str
    content: str
    flips: bool
    scaled: bool
    dtype: str
    shard_size: int
    seed: int

    @property
    def layout(self) -> Layout:
        """The layout of that name."""
        return LAYOUTS[self.format]


def plan_for(
    adapter: Adapter,
    *,
    format: str = "webdataset",
    content: str | None = None,
    flips: bool | None = None,
    scaled: bool = False,
    dtype: str = "float32",
    shard_size: int | None = None,
    seed: int = 0,
) -> Plan:
    """The plan for a model, with what the layout and the model decide where nothing else is asked for.

    Args:
        adapter: of the model.
        format: see `Plan`.
        content: see `Plan`; by default what the readers of the layout expect, and otherwise all that the model gives.
        flips: see `Plan`; by default what the readers of the layout expect.
        scaled: see `Plan`.
        dtype: see `Plan`.
        shard_size: see `Plan`.
        seed: see `Plan`.

    Raises:
        UserError: if the model or the layout has no such thing.
    """
    layout = LAYOUTS[format]
    more = ("posterior",) if adapter.gaussian else ("indices",) if adapter.discrete else ()
    gives = (*more, "samples")
    possible = [one for one in gives if one in layout.contents]
    content = content or possible[0]
    if content not in gives:
        raise UserError(f"--content {content}: {adapter.class_name} has no {content}, give {' or '.join(gives)}.")
    if content not in layout.contents:
        raise UserError(f"--content {content}: readers of --format {format} expect {' or '.join(layout.contents)}.")
    if dtype not in layout.dtypes:
        raise UserError(f"--dtype {dtype}: files of --format {format} are in {' or '.join(layout.dtypes)}.")
    if dtype != "float32" and content == "indices":
        raise UserError(f"--dtype {dtype} has no effect on indices, which are integers: leave it out.")
    if scaled and content != "samples":
        raise UserError("--scaled is for --content samples: scale the others when you read them.")
    if flips is False and layout.needs_flips:
        raise UserError(f"readers of --format {format} expect the latents of mirrored images: leave --no_flips out.")
    return Plan(
        format,
        content,
        layout.needs_flips if flips is None else flips,
        scaled,
        dtype,
        shard_size or SHARD_SIZE,
        seed,
    )
