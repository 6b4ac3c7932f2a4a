"""Open an autoencoder by name, with one sentence for whatever can be wrong about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError
from ..texts import read_json_object
from .adapter import Adapter
from .registry import accepted_classes, adapt, family_of
from .vae import AutoencoderVAE

SINGLE_FILE = (".safetensors", ".sft")


def load_autoencoder(
    source: str, subfolder: str | None = None, revision: str | None = None, config: str | None = None
) -> Adapter:
    """Open the autoencoder in a folder, on the Hub or in a single file, to be used with images in [-1, 1].

    Weights are read from safetensors only.

    Args:
        source: folder, id on the Hub, or .safetensors file with the names of the original code (such as Stable
            Diffusion's).
        subfolder: folder of the model inside `source`.
        revision: branch, tag or commit on the Hub.
        config: config.json (or its folder) of the model in a single file. Without it diffusers guesses which of the
            published models it is, and fetches the config of that one from the Hub.

    Raises:
        UserError: if there is no autoencoder, or something else (which diffusers would load into any class silently).
    """
    if source.endswith(SINGLE_FILE):
        _refuse(f"the single file {source}", subfolder=subfolder, revision=revision)
        return _load_single_file(source, config)
    if config is not None:
        raise UserError(f"--model_config is for a new model or a single file, {source} has its own: leave it out.")
    where: dict[str, Any] = {"subfolder": subfolder, "revision": revision}
    if (source.startswith((".", "/", "~")) or source.count("/") > 1) and not Path(source).exists():  # no Hub id
        raise UserError(f"{source} does not exist: give the folder of a model, or its id on the Hub.")
    local = Path(source) / (subfolder or "")
    if Path(source).exists() and not (local / "config.json").is_file():
        vae = " It looks like a whole pipeline: add --subfolder vae." if (local / "vae").is_dir() else ""
        raise UserError(f"no model can be opened at '{local}': there is no config.json in it.{vae}")
    if Path(source).exists():
        _refuse(f"the local folder {source}", revision=revision)
        # diffusers would prefer weights in the folder itself to those in the subfolder.
        source, where = str(local), {}
    try:
        kind = AutoencoderVAE.load_config(source, **where).get("_class_name")
        model = _model_class(_family(kind, source)).from_pretrained(source, use_safetensors=True, **where)
    except OSError as error:
        reading = "" if Path(source).exists() else "no such folder, and on the Hub: "
        raise UserError(f"no model can be opened at {source!r}: {reading}{str(error).splitlines()[0]}") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"the model at {source!r} cannot be built: {str(error).splitlines()[0]}") from error
    return _opened(model)


def new_from_config(path: str) -> Adapter:
    """A model with random weights, of the class and the fields in a config.json (or the folder that holds it).

    Raises:
        UserError: if there is no config, or the class or the fields are not understood.
    """
    config = read_config(path)
    cls = _model_class(_family(config.get("_class_name"), path))
    fields = {name: value for name, value in config.items() if not name.startswith("_")}
    unknown = sorted(fields.keys() - cls._get_init_keys(cls) - {"block_out_channels", "force_upcast"})
    if unknown:
        raise UserError(f"{path} has {', '.join(unknown)}, which {cls.__name__} does not know: leave it out.")
    try:
        return _opened(cls.from_config(fields))
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise UserError(f"{cls.__name__} cannot be built from {path}: {str(error).splitlines()[0]}") from error


def read_config(path: str) -> dict[str, Any]:
    """The content of a config.json, given by its path or its folder.

    Raises:
        UserError: if it cannot be read.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        return read_json_object(file)
    except OSError as error:
        raise UserError(f"no configuration can be read at {file}: {error.strerror}.") from error


def _refuse(place: str, **given: str | None) -> None:
    """Refuse what only another kind of source has."""
    for name, value in given.items():
        if value is not None:
            raise UserError(f"{name} {value!r} has no effect on {place}: leave it out.")


def _opened(model: Any) -> Adapter:
    adapter = adapt(model)
    adapter.use_signed_images()
    return adapter


def _load_single_file(source: str, config: str | None) -> Adapter:
    if not Path(source).is_file():
        raise UserError(f"{source} does not exist: give the file of a model.")
    if config is None and (Path(source).parent / "config.json").is_file():
        return load_autoencoder(str(Path(source).parent))
    folder = None
    kind: str | None = "AutoencoderKL"
    if config is not None:
        kind = read_config(config).get("_class_name")
        folder = str(Path(config) if Path(config).is_dir() else Path(config).parent)
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"--model_config {config}: next to a single file it must be called config.json.")
    family = _family(kind, str(config))
    if not family.from_single_file:
        raise UserError(f"{kind} cannot be read from a single file: give the folder of the model.")
    try:
        return _opened(_model_class(family).from_single_file(source, config=folder))
    except Exception as error:  # what a file of other weights leads to has no common class
        hint = "" if config else " Its architecture was guessed: give its config.json by --model_config."
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source} cannot be opened as {kind}: {reason}.{hint}") from error


def _family(kind: str | None, source: str) -> type[Adapter]:
    family = family_of(kind)
    if family is None:
        raise UserError(f"{source} holds {kind}, which is not supported: {accepted_classes(kind)}")
    return family


def _model_class(family: type[Adapter]) -> Any:
    """The class itself; `Any`, because diffusers' loading methods are mixed in."""
    return family.model_class()
