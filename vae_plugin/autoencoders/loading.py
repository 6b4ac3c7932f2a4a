"""Open a model by name, with one sentence for what can be wrong about it."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from . import Autoencoder, AutoencoderVAE, AutoencoderVQVAE

CLASSES = {cls.__name__: cls for cls in (AutoencoderVAE, AutoencoderVQVAE)}


def load_autoencoder(source: str, subfolder: str | None = None, revision: str | None = None) -> Autoencoder:
    """The autoencoder in a folder or on the Hub, from safetensors only, to be used with images in [-1, 1].

    Raises:
        UserError: if there is none, or something else is there (which diffusers would load into any class silently).
    """
    where = {"subfolder": subfolder, "revision": revision}
    if (source.startswith((".", "/", "~")) or source.count("/") > 1) and not Path(source).exists():  # no Hub id
        raise UserError(f"{source} does not exist: give the folder of a model, or its id on the Hub.")
    local = Path(source) / (subfolder or "")
    if Path(source).exists() and not (local / "config.json").is_file():
        raise UserError(f"no model can be opened at '{local}': there is no config.json in it.")
    try:
        kind = AutoencoderVAE.load_config(source, **where).get("_class_name")
        if kind not in CLASSES:
            raise UserError(f"{source} holds a {kind}: this command takes an {' or '.join(CLASSES)}.")
        model = CLASSES[kind].from_pretrained(source, use_safetensors=True, **where)
    except OSError as error:
        reading = "" if Path(source).exists() else "no such folder, and on the Hub: "
        raise UserError(f"no model can be opened at {source!r}: {reading}{str(error).splitlines()[0]}") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"the model at {source!r} cannot be made: {str(error).splitlines()[0]}") from error
    if isinstance(model, AutoencoderVQVAE):
        model.set_image_range(-1, 1)
    return model
