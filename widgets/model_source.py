"""Where a lab's model is from, as Python that opens it in any kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vae_plugin.autoencoders import load_autoencoder
from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.recipe import Expression

OPEN = "vae_plugin.autoencoders.load_autoencoder"
BUNDLED = Path(__file__).resolve().parent / "circles"  # the model that comes with the package


class ModelSource:
    """Python for the model of a lab.

    Args:
        given: what the user gave: a model or pipeline; a folder, file or Hub id; None for the bundled model.
        codec: the model.
        in_kernel: returns Python that yields the model in this kernel.
    """

    def __init__(self, given: object, codec: Codec, in_kernel: Callable[[], str]) -> None:
        self._given = given
        self._codec = codec
        self._in_kernel = in_kernel
        self._compared: tuple[object, bool] | None = None

    def expression(self) -> Expression:
        """Python that yields the model; with a comment if it cannot be opened in another kernel."""
        if self._given is None:
            return Expression(f"load_autoencoder(BUNDLED).model{self._moved()}", (OPEN, f"{__name__}.BUNDLED"))
        if isinstance(self._given, (str, os.PathLike)):
            return self._opened(str(self._given))
        folder = self._codec.model.config.get("_name_or_path") or ""
        if os.path.isdir(folder) and self._is_in(folder):
            return self._opened(folder)
        return Expression(f"{self._in_kernel()}  # made in Python: in another kernel, put the model here")

    def _opened(self, source: str) -> Expression:
        path = os.path.expanduser(source)
        place = os.path.abspath(path) if os.path.exists(path) else source
        return Expression(f"load_autoencoder({place!r}).model{self._moved()}", (OPEN,))

    def _moved(self) -> str:
        """Where the model has been moved after it was opened."""
        model = self._codec.model
        words = [] if str(self._codec.device) == "cpu" else [repr(str(self._codec.device))]
        words += [] if model.dtype == torch.float32 else [str(model.dtype)]
        return f".to({', '.join(words)})" if words else ""

    def _is_in(self, folder: str) -> bool:
        """Whether a folder has the model as it is now: its weights may have been changed since it was opened."""
        model = self._codec.model
        version = [(name, value.data_ptr(), value._version) for name, value in model.state_dict().items()]
        if self._compared is None or self._compared[0] != version:
            self._compared = version, _are_equal(model, folder)
        return self._compared[1]


def _are_equal(model: Any, folder: str) -> bool:
    try:
        other = load_autoencoder(folder).model
    except UserError:
        return False
    ours, theirs = model.state_dict(), other.state_dict()
    if (
        type(other) is not type(model)
        or ours.keys() != theirs.keys()
        or dict(model.config).get("image_range") != dict(other.config).get("image_range")
    ):
        return False
    return all(torch.equal(value.cpu(), theirs[name].to(value.dtype)) for name, value in ours.items())
