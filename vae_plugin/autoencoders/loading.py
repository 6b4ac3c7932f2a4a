"""Open an autoencoder by name, with one sentence for whatever can be wrong about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from accelerate import init_empty_weights
from diffusers import DiffusionPipeline

from ..errors import UserError
from ..files import settle
from ..notices import printable, say
from ..texts import read_json_object
from ..wording import shown
from .adapter import Adapter
from .config_fields import check_fields
from .records import RECORDED
from .registry import accepted_classes, adapt, family_of
from .single_file import as_folder, config_from_weights, config_in, load_converted, needs_conversion
from .storage import NO_PICKLE, SafeStorage
from .taesd import as_folder as taesd_as_folder
from .taesd import is_taesd_file, pair_at
from .vae import AutoencoderVAE
from .weights import load_fitting, reason

SINGLE_FILE = (".safetensors", ".sft")
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
COMPONENTS = ("vae", "movq", "vqvae")  # names of a pipeline's autoencoder, the first that it has is opened


def load_autoencoder(
    source: str | os.PathLike,
    subfolder: str | None = None,
    revision: str | None = None,
    config: str | None = None,
    variant: str | None = None,
) -> Adapter:
    """Open the autoencoder in a folder, on the Hub or in a single file, to be used with images in [-1, 1].

    Weights are read from safetensors only, and have to fit: see `weights.load_fitting`. Of a whole pipeline its
    autoencoder is opened, which is said.

    Args:
        source: folder, id on the Hub, or .safetensors file, with the names of diffusers or of the original code (such
            as Stable Diffusion's); or the folder of TAESD's two files, or one of them, see `taesd`.
        subfolder: folder of the model inside `source`.
        revision: branch, tag or commit on the Hub.
        config: config.json (or its folder) of the model in a single file. Without it that of the file's metadata or
            folder is taken; if there is none either, see `single_file.config_from_weights`.
        variant: of the weights, such as "fp16" for diffusion_pytorch_model.fp16.safetensors.

    Raises:
        UserError: if there is no autoencoder, something else (which diffusers would load into any class silently), or
            weights that do not fit.
    """
    source = _path(source)
    if is_taesd_file(source):
        _refuse(f"{source}, one of the two files of TAESD", subfolder=subfolder, revision=revision)
        return _load_taesd(source, config=config, variant=variant)
    if not os.path.isdir(source) and source.lower().endswith(SINGLE_FILE):
        _refuse(f"the single file {source}", subfolder=subfolder, revision=revision, variant=variant)
        return _load_single_file(source, config)
    if os.path.isfile(source):
        if source.lower().endswith(PICKLES):
            raise UserError(f"{source} cannot be opened. {NO_PICKLE}")
        raise UserError(f"{source} is no model: give a folder, a Hub id or a .safetensors file.")
    if config is not None:
        raise UserError(f"--model_config is for a new model or a single file, {source} has its own: leave it out.")
    if os.path.exists(source):
        _refuse(f"the local folder {source}", revision=revision)
        # diffusers would prefer weights in the folder itself to those in the subfolder.
        return _load_folder(os.path.join(source, subfolder) if subfolder else source, variant)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:  # no Hub id
        raise UserError(f"{printable(source)} does not exist: give the folder of a model, or its id on the Hub.")
    where: dict[str, Any] = {"subfolder": subfolder, "revision": revision}
    try:
        content = AutoencoderVAE.load_config(source, **where)
    except OSError as error:
        index = _pipeline_on_hub(source, revision) if subfolder is None else None
        if index is not None:
            return _load_component(source, index, revision=revision, variant=variant)
        raise _cannot_open(source, error) from error
    if not isinstance(content, dict):
        raise UserError(f"the config.json of {source} does not hold a JSON object: give the id of a model.")
    return _opened(_load(source, content, **where, variant=variant))


def new_from_config(path: str) -> Adapter:
    """A model with random weights, of the class and the fields in a config.json (or the folder that holds it).

    Raises:
        UserError: if there is no config, or the class or the fields are not understood.
    """
    path = _path(path)
    config = read_config(path)
    cls = _model_class(_family(config.get("_class_name"), path))
    fields = {name: value for name, value in config.items() if not name.startswith("_") or name in RECORDED}
    unknown = sorted(fields.keys() - cls._get_init_keys(cls) - {"block_out_channels", "force_upcast", *RECORDED})
    if unknown:
        raise UserError(f"{path} has {', '.join(unknown)}, which {cls.__name__} does not know: leave it out.")
    check_fields(cls, fields, path)
    try:
        with init_empty_weights(include_buffers=True):
            needed = 4 * sum(value.numel() for value in cls.from_config(fields).state_dict().values())
        if needed > psutil.virtual_memory().available:
            raise UserError(
                f"{cls.__name__} cannot be built from {path}: its weights would take {needed / 2**30:,.0f} GiB, more "
                "than the memory that is free. Give smaller sizes."
            )
        return _opened(cls.from_config(fields))
    except UserError:
        raise
    except Exception as error:  # what impossible sizes lead to has no common class
        raise UserError(f"{cls.__name__} cannot be built from {path}: {reason(error)}.") from error


def read_config(path: str) -> dict[str, Any]:
    """The content of a config.json, given by its path or its folder.

    Raises:
        UserError: if it cannot be read.
    """
    file = os.path.join(path, "config.json") if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise UserError(f"no configuration can be read at {printable(file)}: no such file.")
    try:
        return read_json_object(file)
    except OSError as error:
        raise UserError(f"no configuration can be read at {file}: {error.strerror}.") from error


def autoencoder_of(pipeline: object) -> Any:
    """The component of a pipeline that is its autoencoder; None if it has none."""
    return next((part for part in (getattr(pipeline, name, None) for name in COMPONENTS) if part is not None), None)


def _path(given: object) -> str:
    """A path or Hub id as text, with the home folder for ~.

    Raises:
        UserError: if it is neither.
    """
    path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str):
        raise UserError(f"a model was given as {shown(given)}: give a folder, a Hub id or a .safetensors file.")
    return os.path.expanduser(path)


def _load_folder(folder: str, variant: str | None) -> Adapter:
    """The model in a local folder, or the autoencoder of the pipeline there."""
    settle(Path(folder))  # a run that was killed may have left files of two results there
    index = os.path.join(folder, DiffusionPipeline.config_name)
    if os.path.isfile(os.path.join(folder, "config.json")):
        return _opened(_load(folder, read_config(folder), variant=variant))
    if os.path.isfile(index):
        return _load_component(folder, read_json_object(index), variant=variant)
    if os.path.isdir(folder) and pair_at(folder) is not None:
        return _load_taesd(folder, variant=variant)
    vae = " It looks like a whole pipeline: add --subfolder vae." if os.path.isdir(os.path.join(folder, "vae")) else ""
    raise UserError(f"no model can be opened at {folder!r}: there is no config.json in it.{vae}")


def _load(source: str, config: Mapping[str, Any], place: str | None = None, **where: Any) -> Any:
    """The model whose config was read, with weights that fit it; `place` is where it is, if not at `source` itself."""
    cls = _model_class(_family(config.get("_class_name"), source))
    quantised = config.get("quantization_config")
    if quantised is not None:
        by = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise UserError(
            f"the weights of {source} are quantised (by {shown(by)}): give the model that they were made from, or open "
            f"them by {cls.__name__}.from_pretrained."
        )
    check_fields(cls, config, f"the config.json of {source}")
    # Our classes add to it what is done here already.
    parent: Any = super(SafeStorage, cls) if issubclass(cls, SafeStorage) else cls
    try:
        return load_fitting(parent.from_pretrained, place or source, named=source, use_safetensors=True, **where)[0]
    except OSError as error:
        raise _cannot_open(source, error, where.get("variant")) from error


def _load_component(source: str, index: Mapping[str, Any], **where: Any) -> Adapter:
    """The autoencoder of a pipeline, whose model_index.json was read."""
    classes = {
        name: entry[1]
        for name, entry in index.items()
        if isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], str)
    }
    name = next((name for name in COMPONENTS if name in classes), None)
    if name is None:
        raise UserError(
            f"{source} is a pipeline without an autoencoder (it has {', '.join(sorted(classes)) or 'nothing'})."
        )
    _family(classes[name], f"the pipeline {source}")
    adapter = load_autoencoder(source, name, **where)
    say(f"{source} is a whole pipeline: its {name}, an {classes[name]}, is opened.")
    return adapter


def _pipeline_on_hub(source: str, revision: str | None) -> Mapping[str, Any] | None:
    """The model_index.json of a repository, if it has one and can be reached."""
    try:
        index = DiffusionPipeline.load_config(source, revision=revision)
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) else None


def _cannot_open(source: str, error: OSError, variant: str | None = None) -> UserError:
    reading = "" if os.path.exists(source) else "no such folder, and on the Hub: "
    of = f" with the variant {variant!r}" if variant else ""
    pickle = f" {NO_PICKLE}" if ".safetensors" in str(error) and not variant else ""
    return UserError(f"no model{of} can be opened at {source!r}: {reading}{reason(error)}.{pickle}")


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
    """The model in one file, by the config that is given, its own, that of its folder, or one made from its weights."""
    file = Path(source)
    if not os.path.isfile(source):
        raise UserError(f"{printable(source)} does not exist: give the file of a model.")
    own, beside, said = config_in(file), file.parent / "config.json", ""
    if config is not None:
        content = read_config(config)
    elif own is not None:
        content = own
    elif beside.is_file():
        content = read_config(str(beside))
    else:
        content, said = config_from_weights(file)
    family = _family(content.get("_class_name"), str(config or source))
    if not needs_conversion(file, family.single_file):
        with as_folder(file, content) as folder:
            model = _load(source, content, place=folder)
    elif family.single_file is None:
        raise UserError(f"{content['_class_name']} cannot be read from a single file: give the folder of the model.")
    else:
        cls = _model_class(family)
        check_fields(cls, content, f"the configuration of {source}")
        model = load_converted(cls, file, content, family.single_file)
    if said:
        say(said)
    return _opened(model)


def _load_taesd(source: str, **given: str | None) -> Adapter:
    """The model in TAESD's two files, given by one of them or their folder."""
    _refuse(f"the files of TAESD in {source}", **given)
    pair = pair_at(source)
    assert pair is not None
    with taesd_as_folder(pair) as (content, folder):
        return _opened(_load(source, content, place=folder))


def _family(kind: Any, source: str) -> type[Adapter]:
    family = family_of(kind)
    if family is None:
        named = kind if isinstance(kind, str) and kind.isidentifier() else shown(kind)
        raise UserError(f"{source} holds {named}, which is not supported: {accepted_classes(kind)}")
    return family


def _model_class(family: type[Adapter]) -> Any:
    """The class itself; `Any`, because diffusers' loading methods are mixed in."""
    return family.model_class()
