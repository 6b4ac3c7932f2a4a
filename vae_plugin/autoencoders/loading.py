"""Open a model by name, with one sentence for what can be wrong about it."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import VQModel
from diffusers.loaders import FromOriginalModelMixin
from diffusers.models.modeling_utils import ModelMixin

from ..errors import UserError
from . import AutoencoderVAE, AutoencoderVQVAE
from .interface import CLASSES, OURS

SINGLE_FILE = (".safetensors", ".sft")


def load_autoencoder(
    source: str, subfolder: str | None = None, revision: str | None = None, config: str | None = None
) -> ModelMixin:
    """The autoencoder in a folder, on the Hub or in a single file, to be used with images in [-1, 1].

    Weights are read from safetensors only. A `VQModel` becomes an `AutoencoderVQVAE` with the same weights, which has
    the loss of the paper (`VQModel` has it wrong) and goes back by `to_vq_model`.

    Args:
        source: folder, id on the Hub, or .safetensors file with the original code's names (as Stable Diffusion's).
        subfolder: the folder of the model inside that one.
        revision: branch, tag or commit on the Hub.
        config: config.json (or its folder) of the model of a single file; without it diffusers guesses which of the
            published models it is, and fetches that one's from the Hub.

    Raises:
        UserError: if there is none, or something else is there (which diffusers would load into any class silently).
    """
    if source.endswith(SINGLE_FILE):
        return _load_single_file(source, config)
    if config is not None:
        raise UserError(f"--model_config is for a new model or a single file, {source} has its own: leave it out.")
    where = {"subfolder": subfolder, "revision": revision}
    if (source.startswith((".", "/", "~")) or source.count("/") > 1) and not Path(source).exists():  # no Hub id
        raise UserError(f"{source} does not exist: give the folder of a model, or its id on the Hub.")
    local = Path(source) / (subfolder or "")
    if Path(source).exists() and not (local / "config.json").is_file():
        vae = " It looks like a whole pipeline: add --subfolder vae." if (local / "vae").is_dir() else ""
        raise UserError(f"no model can be opened at '{local}': there is no config.json in it.{vae}")
    try:
        kind = AutoencoderVAE.load_config(source, **where).get("_class_name")
        model = _class(kind, source).from_pretrained(source, use_safetensors=True, **where)
    except OSError as error:
        reading = "" if Path(source).exists() else "no such folder, and on the Hub: "
        raise UserError(f"no model can be opened at {source!r}: {reading}{str(error).splitlines()[0]}") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"the model at {source!r} cannot be made: {str(error).splitlines()[0]}") from error
    return as_trained(model)


def new_from_config(path: str) -> ModelMixin:
    """A model with random weights of the class and the fields in a config.json (or the folder that holds it).

    Raises:
        UserError: if there is none, or the class or the fields are not understood.
    """
    config = read_config(path)
    cls = _class(config.get("_class_name"), path)
    fields = {name: value for name, value in config.items() if not name.startswith("_")}
    unknown = sorted(fields.keys() - cls._get_init_keys(cls) - {"block_out_channels", "force_upcast"})
    if unknown:
        raise UserError(f"{path} has {', '.join(unknown)}, which an {cls.__name__} does not know: leave it out.")
    try:
        return as_trained(cls.from_config(fields))
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise UserError(f"no {cls.__name__} can be made of {path}: {str(error).splitlines()[0]}") from error


def read_config(path: str) -> dict:
    """The content of a config.json, given by its path or its folder.

    Raises:
        UserError: if it cannot be read.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"no configuration can be read at {file}: {reason}.") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} is not the config.json of a model: write a map of its fields.")
    return config


def as_trained(model: ModelMixin) -> ModelMixin:
    """The form that is trained and measured: a `VQModel` as `AutoencoderVQVAE`, anything else as it is."""
    if isinstance(model, VQModel):
        try:
            model = AutoencoderVQVAE.from_vq_model(model, dead_code_threshold=0.0)
        except ValueError as error:
            raise UserError(f"this VQModel cannot be trained: {error}") from error
        model.saved_as = VQModel
    if isinstance(model, AutoencoderVQVAE):
        model.set_image_range(-1, 1)
    return model


def as_saved(model: ModelMixin) -> ModelMixin:
    """The form that goes to disk: of the class that it came as."""
    return model.to_vq_model() if getattr(model, "saved_as", None) is VQModel else model


def _load_single_file(source: str, config: str | None) -> ModelMixin:
    if not Path(source).is_file():
        raise UserError(f"{source} does not exist: give the file of a model.")
    if config is None and (Path(source).parent / "config.json").is_file():
        return load_autoencoder(str(Path(source).parent))
    folder = None
    kind = "AutoencoderKL"
    if config is not None:
        kind = read_config(config).get("_class_name")
        folder = str(Path(config) if Path(config).is_dir() else Path(config).parent)
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"--model_config {config}: next to a single file it must be called config.json.")
    cls = _class(kind, str(config))
    if not issubclass(cls, FromOriginalModelMixin) or issubclass(cls, OURS):
        raise UserError(f"an {kind} cannot be read from a single file: give its folder.")
    try:
        return cls.from_single_file(source, config=folder)
    except Exception as error:  # what a file of other weights leads to has no common class
        hint = (
            ""
            if config
            else " Its architecture was guessed: --model_config says it, with the config.json of the model."
        )
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source} cannot be opened as an {kind}: {reason}.{hint}") from error


def _class(kind: str | None, source: str) -> type[ModelMixin]:
    if kind not in CLASSES:
        names = ", ".join(sorted(CLASSES))
        raise UserError(
            f"{source} holds a {kind}, which cannot be trained here: it must be one of {names}.{_why(kind)}"
        )
    return CLASSES[kind]


def _why(kind: str | None) -> str:
    if kind == "ConsistencyDecoderVAE":
        return " Its decoder is a diffusion model, trained on noise."
    if kind == "AutoencoderRAE":
        return " Its encoder is a frozen vision model with a preprocessing of its own."
    if kind is not None and kind.startswith(("Autoencoder", "AsymmetricAutoencoder")):
        return " Of diffusers' own, those of videos, of sound and of 3-D volumes are left out."
    return ""
