"""A model in one .safetensors file: under the names of diffusers, or those of its original code."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..errors import UserError
from ..files import write_json
from .layouts import Contents, Layout
from .registry import ADAPTERS
from .weights import ONLY_TRAINING_COUNTS, WEIGHTS_NAME, WRAPPERS, WeightsError, check_finite, few, header, reason

IN_CHECKPOINT = "first_stage_model."
DECODER = re.compile(r"decoder\.|up\.\d+\.block\.")
NOT_THE_MODEL = "loss."  # of its training
LAYOUTS: tuple[Layout, ...] = tuple(
    {id(f.single_file): f.single_file for f in ADAPTERS.values() if f.single_file}.values()
)


def config_in(file: Path) -> dict[str, Any] | None:
    """The config.json in a file's metadata, where our own exports have it; None if there is none.

    Raises:
        UserError: if the file is no safetensors file.
    """
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged, or no safetensors file ({reason(error)}): copy it again.") from error
    try:
        config = json.loads(metadata.get("config", ""))
    except (ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) and "_class_name" in config else None


def config_from_weights(file: Path) -> tuple[dict[str, Any], str]:
    """The config of the class whose weights a file has, as their names and shapes say it.

    Returns:
        The config, and a sentence on what was taken for granted.

    Raises:
        UserError: if the weights are those of something else.
    """
    stored = {name: shape for name, (_, shape) in header(file).items()}
    found = None
    for layout in LAYOUTS:
        prefix = _prefix(stored, layout)
        if prefix is not None:
            shapes = {name[len(prefix) :]: shape for name, shape in stored.items() if name.startswith(prefix)}
            found = Contents(file, stored.keys(), prefix, shapes)
            if layout.holds(shapes):
                try:
                    return layout.config(found)
                except (KeyError, IndexError, ValueError):
                    break
    if found is None:
        raise _none_in(file, stored, LAYOUTS)
    raise UserError(
        f"no autoencoder is known whose weights have these names: {few(found.shapes)} in {file}. Give its config.json "
        "(--model_config)."
    )


def needs_conversion(file: Path, layout: Layout | None) -> bool:
    """Whether diffusers cannot read a file as it is: the names are original, or stand among those of other models."""
    names = header(file)
    if any(other.original.search(name) for other in LAYOUTS for name in names):
        return True
    prefix = layout and _prefix(names, layout)
    return bool(prefix) and not all(name.startswith(str(prefix)) for name in names)


@contextmanager
def as_folder(file: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """A temporary folder in which the file stands as the weights of a model of diffusers."""
    with tempfile.TemporaryDirectory(prefix="vae-plugin-file-") as folder:
        write_json(Path(folder) / "config.json", dict(config))
        target = Path(folder) / f"{WEIGHTS_NAME}.safetensors"
        try:
            os.symlink(file.resolve(), target)
        except OSError:  # where links are not allowed
            shutil.copyfile(file, target)
        yield folder


def load_converted(cls: Any, file: Path, config: Mapping[str, Any], layout: Layout) -> Any:
    """A model of the given config in float32, from a file that `needs_conversion`, every tensor of it.

    Raises:
        WeightsError: if the weights do not fit.
    """
    state = load_file(file)
    prefix = _prefix(state, layout)
    if prefix is None:
        raise _none_in(file, state, [layout])
    part = {WRAPPERS.sub("", name[len(prefix) :]): value for name, value in state.items() if name.startswith(prefix)}
    part = {name: value for name, value in part.items() if not name.startswith(NOT_THE_MODEL)}
    with init_empty_weights():
        model = cls.from_config(dict(config))
    expected = model.state_dict()
    original = any(map(layout.original.search, part))
    try:
        converted = layout.to_diffusers(part, config) if original else {}
    except Exception as error:  # what other names lead to has no common class
        raise WeightsError(f"the weights of {file} do not fit {cls.__name__}: {reason(error)}.") from error
    read = {value.data_ptr() for value in converted.values()}
    rest = {name: value for name, value in part.items() if value.data_ptr() not in read}
    converted |= {name: value for name, value in rest.items() if name in expected}  # named alike, such as FLUX.2's norm
    wrong = {
        "missing": [name for name in expected if name not in converted and not name.endswith(ONLY_TRAINING_COUNTS)],
        "unknown to it": [name for name in {**rest, **converted} if name not in expected],
        "of another shape": [n for n, v in converted.items() if n in expected and v.shape != expected[n].shape],
        "without floating-point numbers": [
            n for n, v in converted.items() if n in expected and expected[n].is_floating_point() > v.is_floating_point()
        ],
    }
    said = [f"{few(names)} {what}" for what, names in wrong.items() if names]
    if said:
        raise WeightsError(
            f"the weights of {file} do not fit {cls.__name__}: {'; '.join(said)}. Give the config.json that they were "
            "saved with."
        )
    model.load_state_dict({name: value.to(expected[name].dtype) for name, value in converted.items()}, False, True)
    check_finite(model.state_dict(), f"the weights of {file}", "take those of an earlier checkpoint")
    model.register_to_config(_name_or_path=str(file))
    return model.eval()


def _prefix(names: Collection[str], layout: Layout) -> str | None:
    """What stands before every name of the autoencoder in a file; None if there is none, or more than one."""
    prefixes = [
        name.removesuffix(first)
        for first in layout.first
        for name in names
        if name == first or name.endswith("." + first)
    ]
    if len(prefixes) > 1:
        prefixes = [prefix for prefix in prefixes if prefix.endswith(IN_CHECKPOINT)]
    return prefixes[0] if len(prefixes) == 1 else None


def _none_in(file: Path, names: Collection[str], layouts: Collection[Layout]) -> UserError:
    firsts = " or ".join(sorted({name for layout in layouts for name in layout.first}))
    if any(DECODER.match(name) for name in names) and not any("encoder." in name for name in names):
        return UserError(f"{file} holds a decoder without its encoder ({firsts}): give the file that has both.")
    return UserError(
        f"{file} holds no autoencoder of a known kind: it has {few(names) or 'no weights'}, and not one {firsts}."
    )
