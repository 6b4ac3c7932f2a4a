"""The model that a command works on, declared once for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..autoencoders import Adapter, load_autoencoder
from ..options import option


@dataclass
class ModelSource:
    """Where a model is; the options of a command begin with these."""

    pretrained_model_name_or_path: str = option(
        "",
        "Model: a folder, a Hub id or a .safetensors file.",
        positional="model",
        required="no model given: name a folder, a Hub id or a .safetensors file.",
    )
    subfolder: str | None = option(None, "Folder of the model inside that repository, such as vae.")
    revision: str | None = option(None, "Branch, tag or commit of that repository.")

    def open(self) -> Adapter:
        """The model, in evaluation mode.

        Raises:
            UserError: if there is none.
        """
        adapter = load_autoencoder(self.pretrained_model_name_or_path, self.subfolder, self.revision)
        adapter.model.eval()
        return adapter
