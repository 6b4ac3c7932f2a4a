"""Open a model by name, with one sentence for what can be wrong about it."""

from __future__ import annotations

from ..errors import UserError
from .vae import AutoencoderVAE


def load_autoencoder(source: str, subfolder: str | None = None, revision: str | None = None) -> AutoencoderVAE:
    """An `AutoencoderVAE` from a folder or the Hub, from safetensors only.

    Raises:
        UserError: if there is none, or something else is there (which diffusers would load into this class silently).
    """
    where = {"subfolder": subfolder, "revision": revision}
    try:
        config = AutoencoderVAE.load_config(source, **where)
        kind = config.get("_class_name")
        if kind != AutoencoderVAE.__name__:
            raise UserError(f"{source} holds a {kind}: this command takes an {AutoencoderVAE.__name__}.")
        return AutoencoderVAE.from_pretrained(source, use_safetensors=True, **where)
    except OSError as error:
        raise UserError(f"no model can be opened at {source!r}: {str(error).splitlines()[0]}") from error
