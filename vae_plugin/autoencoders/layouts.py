"""How one file holds an autoencoder: the names of the original code, and what their shapes say of the model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Contents:
    """What the header of a file says.

    Attributes:
        file: where it is.
        names: of everything in it, a whole checkpoint's denoiser too.
        prefix: what stands before every name of the autoencoder.
        shapes: of the autoencoder's tensors, by their names without the prefix.
    """

    file: Path
    names: Collection[str]
    prefix: str
    shapes: Shapes


class Layout:
    """The single file of one class of diffusers. A family has its own, as `Adapter.single_file`.

    Attributes:
        code: whose code named the weights.
        first: names of a weight that each of its files has, by the original code or by diffusers.
        original: found in names of the original code, and not in those of diffusers.
        tools: that load such a file, and whose architecture they build, to begin a sentence with.
    """

    code: ClassVar[str]
    first: ClassVar[tuple[str, ...]]
    original: ClassVar[re.Pattern[str]]
    tools: ClassVar[str]

    def holds(self, shapes: Shapes) -> bool:
        """Whether weights, which have a `first`, are those of this class rather than of another with that name."""
        raise NotImplementedError

    def config(self, contents: Contents) -> tuple[dict[str, Any], str]:
        """The config of the class that has weights of these shapes, and a sentence on what was taken for granted.

        Raises:
            KeyError, IndexError, ValueError: if none has.
        """
        raise NotImplementedError

    def to_diffusers(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Weights under the names of diffusers; those that have the same name there may be left out."""
        raise NotImplementedError

    def to_original(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Weights under the names of the original code."""
        raise NotImplementedError

    def refusal(self, config: Mapping[str, Any]) -> str | None:
        """What such a model has that no file can hold; None if it has nothing of the kind."""
        return None

    def built_by_tools(self, config: Mapping[str, Any]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
        """Of each field that `tools` have an opinion on: the model's value, and those that they can build."""
        return {}
