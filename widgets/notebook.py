"""The lab in its notebook: the variable that holds it, and the picture that a saved notebook keeps."""

from __future__ import annotations

import numpy as np

from vae_plugin.widgets.bands import ShownBands
from vae_plugin.widgets.outlet import plain_words
from vae_plugin.widgets.pictures import still, still_bundle
from vae_plugin.widgets.state import State
from vae_plugin.widgets.views import original_rgba


def variable_name(value: object, otherwise: str) -> str:
    """The name of the notebook's variable that holds a value, or `otherwise`."""
    try:
        from IPython import get_ipython

        names = get_ipython().user_ns
    except (ImportError, AttributeError):
        return otherwise
    found = [name for name, held in list(names.items()) if held is value and not name.startswith("_")]
    return found[0] if found else otherwise


def model_in_notebook(model: object, lab: object) -> str:
    """Python that yields the model in this kernel: a variable of the notebook, or the lab's model."""
    return variable_name(model, otherwise="") or f"{variable_name(lab, otherwise='lab')}.model"


class Still:
    """The last picture as an output of the cell, which stays without a kernel; a live lab hides it.

    Args:
        key: identifies the output.
        shown: the bands of images that the pictures show.
    """

    def __init__(self, key: str, shown: ShownBands) -> None:
        self._key, self._bands = key, shown
        self._shown = False

    def show(self, state: State, rgba: np.ndarray) -> None:
        """Add the picture to the cell that is running, unless another one has it."""
        if not self._shown:
            self._shown = True
            self._display(state, rgba, update=False)

    def update(self, state: State, rgba: np.ndarray) -> None:
        """Replace the picture, if it was shown."""
        if self._shown:
            self._display(state, rgba, update=True)

    def _display(self, state: State, rgba: np.ndarray, update: bool) -> None:
        from IPython.display import display

        words = f"Latent Lab: {plain_words(state.title)}"
        bundle = still_bundle(self._key, still(original_rgba(state, self._bands.chosen), rgba), words)
        display(bundle, raw=True, display_id=self._key, update=update)
