"""Export to one file with the names of the model's original code, which ComfyUI, A1111 and others load."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import save_file

from ..autoencoders import Adapter, adapt
from ..autoencoders.kl_model import DESCRIPTION
from ..autoencoders.layouts import Layout
from ..autoencoders.records import RECORDED
from ..autoencoders.registry import ADAPTERS
from ..autoencoders.weights import plain_state
from ..errors import UserError
from ..files import json_text
from .diffusers_folder import check_range, plain
from .place import fill_file

SUFFIX = ".safetensors"
PREFIXES = ("first_stage_model", "vae")  # of whole checkpoints: Stable Diffusion's, and those since FLUX.1


def layout_of(model: ModelMixin) -> Layout:
    """How a single file holds a model of one of diffusers' classes.

    Raises:
        UserError: if there is no such file.
    """
    adapter = adapt(model)
    if adapter.single_file is None:
        *others, last = [name for name, family in ADAPTERS.items() if family.single_file is not None]
        raise UserError(
            f"a single file holds an {', '.join(others)} or {last}, and this model is {adapter.class_name}: export it "
            "with --format diffusers."
        )
    return adapter.single_file


def original_state(model: ModelMixin) -> dict[str, torch.Tensor]:
    """The weights by the names of the original code, such as `encoder.down.0.block.0.conv1.weight`."""
    return layout_of(model).to_original(plain_state(model), model.config)


def save_single_file(
    model: Adapter | ModelMixin,
    file: Path,
    prefix: bool | str = False,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
    note: str | None = None,
) -> ModelMixin:
    """Write the weights to one .safetensors file.

    Without `prefix` the names are `encoder.…` and `decoder.…`: a file for the VAE folder of ComfyUI
    (`models/vae`, node "Load VAE") and A1111 (`models/VAE`, setting "SD VAE"). With it every name begins with
    `first_stage_model.`, as in a whole Stable Diffusion checkpoint, into which such a file can be merged, or with
    `vae.`, as in those of FLUX and later models.

    To load it in diffusers, where that reads the class from a file, give a folder with the config.json, such as an
    export with `--format diffusers`; the metadata of the file have the same content under "config":

        AutoencoderKL.from_single_file("vae.safetensors", config="folder")

    Without `config`, diffusers 0.42 guesses the model from the names of the weights. Those of a VAE alone always mean
    Stable Diffusion 1.5: its config is downloaded (which fails offline), weights of any other architecture do not fit,
    and those of the same one get its `scaling_factor` of 0.18215 instead of their own.

    The layout cannot hold `scaling_factor` and `shift_factor`: ComfyUI and A1111 use those of the denoiser. The
    statistics by which FLUX.2's pipelines scale are weights, and are in its file. Other tools also build a single
    architecture, see `foreign_to_other_tools`.

    Args:
        model: of a class that has single files, or that can become one.
        file: path, ending in .safetensors.
        prefix: of every name, of `PREFIXES`; True for the first of them.
        dtype: precision of the weights.
        overwrite: replace an existing file.
        note: what users of the file must know, for its metadata.

    Returns:
        The model whose weights were written.

    Raises:
        UserError: if the layout has no place for the model, or if the file exists.
    """
    written = single_file_form(model)
    check_range(plain_state(written), dtype)
    start = f"{PREFIXES[0] if prefix is True else prefix}." if prefix else ""
    state = {
        start + name: value.detach().to("cpu", dtype if value.is_floating_point() else None)
        for name, value in original_state(written).items()
    }
    name = type(written).__name__
    config = {field: value for field, value in written.config.items() if not field.startswith("_") or field in RECORDED}
    metadata = {
        "format": "pt",
        "_class_name": name,
        "layout": f"{layout_of(written).code}, {f'{start}* keys' if prefix else 'keys of the VAE alone'}",
        "config": json_text({"_class_name": name, **config}, "the config"),
        **{field: str(config[field]) for field in (*DESCRIPTION, "shift_factor") if config.get(field) is not None},
        **({} if note is None else {"note": note}),
    }
    with fill_file(file, SUFFIX, overwrite) as partial:
        save_file(state, partial, metadata)
    return written


def single_file_form(model: Adapter | ModelMixin) -> ModelMixin:
    """The model, where its own class has single files, or the class of diffusers that it can become.

    Raises:
        UserError: if the model is of another kind, or has parts without a name in that layout.
    """
    adapter = adapt(model)
    own = adapter.single_file
    if own is not None and own.refusal(adapter.config) is None:
        return adapter.to_saved()
    converted = plain(adapter)
    refusal = layout_of(converted).refusal(converted.config)
    if refusal is not None:
        raise UserError(f"this {type(converted).__name__} {refusal}: export it with --format diffusers.")
    return converted


def how_diffusers_reads(model: ModelMixin, file: Path) -> str:
    """A sentence for users of diffusers, which reads some classes from a file, and others from a folder only."""
    name, folder = type(model).__name__, "FOLDER is an export with --format diffusers"
    if name in SINGLE_FILE_LOADABLE_CLASSES:
        return f"In diffusers: {name}.from_single_file({str(file)!r}, config=FOLDER), where {folder}."
    if adapt(model).remote_code:
        return f"diffusers has no {name}: vae_plugin.autoencoders.load_autoencoder({str(file)!r}) opens it."
    return f"diffusers reads no {name} from a file: there, {name}.from_pretrained(FOLDER), where {folder}."


def foreign_to_other_tools(model: ModelMixin) -> list[str]:
    """List what keeps other tools from loading the model: each builds one architecture, see `Layout.tools`.

    Returns:
        Each difference as "field = value (theirs)"; empty if they can load it.
    """
    built = layout_of(model).built_by_tools(model.config)
    return [
        f"{name} = {ours} (theirs {accepted[0]})" for name, (ours, accepted) in built.items() if ours not in accepted
    ]
