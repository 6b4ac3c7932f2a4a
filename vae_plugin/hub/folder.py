"""Select the files of a model folder to publish, and stage a copy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..autoencoders.registry import accepted_classes, family_of
from ..errors import UserError
from ..files import copy_files, write_json, write_text
from ..texts import read_json_object, read_text
from ..wording import shown
from .paths import command_without_paths, is_local, without_path_fields, without_paths, yaml_without_paths
from .pipelines import MODEL_INDEX, is_pipeline, pipeline_class, pipeline_files

WEIGHTS = ("diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.safetensors.index.json")
PUBLISHED = (
    "README.md", "LICENSE", "config.json", "metrics.json", "run.json", "training_options.yaml", "samples/*.png",
    *WEIGHTS,
)  # fmt: skip
PROGRESS = "samples/step-*"  # pictures made during training, which are not published


def class_name(folder: Path) -> str:
    """Name of the class of the model or pipeline in a folder.

    Raises:
        UserError: if the folder holds no model that can be published.
    """
    config = folder / "config.json"
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give one with a config.json and weights.")
    if is_pipeline(folder):
        return pipeline_class(folder)
    try:
        name = read_json_object(config)["_class_name"]
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no config.json: give the folder of a model.") from error
    except KeyError as error:
        raise UserError(
            f"{config} does not name the class of a model (_class_name): give the folder of a model."
        ) from error
    if family_of(name) is None:
        named = name if isinstance(name, str) and name.isidentifier() else shown(name)
        raise UserError(f"{folder} holds {named}, which is not supported: {accepted_classes(name)}")
    return name


def published_files(folder: Path) -> dict[str, Path]:
    """Path in the repository -> file, for the files of `PUBLISHED` or of a pipeline. No other file leaves the folder.

    Raises:
        UserError: if there is no model, its weights are not readable safetensors, or one of the files is a link, which
            could lead to any file.
    """
    class_name(folder)
    files = {}
    for path in sorted(pipeline_files(folder) if is_pipeline(folder) else _candidates(folder)):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or path.parent.is_symlink():
            raise UserError(f"{path} is a link, and links are not published: replace it by a copy.")
        if str(path) != str(path).encode("utf-8", "replace").decode():
            raise UserError(
                f"{path} has a name that is not UTF-8, which neither safetensors nor the Hub take: rename it."
            )
        files[name] = path
    weights = [path for path in files.values() if path.suffix == ".safetensors"]
    if not weights and not is_pipeline(folder):
        pickles = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        hint = f" {pickles[0]} is a pickle, which can run code when it is opened:" if pickles else ""
        raise UserError(f"{folder} has no diffusion_pytorch_model.safetensors.{hint} save the model as safetensors.")
    for path in weights:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} cannot be read as safetensors ({error}): save the model again.") from error
    return files


def _candidates(folder: Path) -> Iterator[Path]:
    code = f"{remote_code_module(folder)}.py"
    for path in (*folder.iterdir(), *(folder / "samples").glob("*")):
        name = path.relative_to(folder).as_posix()
        wanted = any(fnmatch(name, pattern) for pattern in PUBLISHED) and not fnmatch(name, PROGRESS)
        if (wanted or name == code) and path.is_file() and "/" not in name.removeprefix("samples/"):
            yield path


def remote_code_module(folder: Path) -> str | None:
    """Name (without .py) of the module for loading without this package, if config.json names one that exists."""
    auto_map = read_json_object(folder / "config.json").get("auto_map")
    named = auto_map.get("AutoModel") if isinstance(auto_map, dict) else None
    module = named.partition(".")[0] if isinstance(named, str) else ""
    return module if re.fullmatch(r"\w{1,100}", module) and (folder / f"{module}.py").is_file() else None


def snapshot(folder: Path, target: Path) -> Path:
    """Copy the published files to `target`, a new folder, without local paths in them.

    They are those of one moment, also while a run writes its result there.
    """
    copy_files(folder, target, lambda: published_files(folder))
    forget_paths(target)
    return target


def forget_paths(folder: Path) -> None:
    """Remove local paths from the options, the configuration and the facts of a run in a staged folder.

    Raises:
        UserError: if one of these files cannot be read.
    """
    options = folder / "training_options.yaml"
    if options.exists():
        write_text(options, yaml_without_paths(read_text(options), options.name))
    if is_pipeline(folder):  # tokens and words in the files of a pipeline may begin like paths: only its paths are read
        for path in (folder / MODEL_INDEX, *folder.glob("*/*config.json")):
            content = read_json_object(path)
            if (public := without_path_fields(content)) != content:
                write_json(path, public)
        return
    for name in ("config.json", "metrics.json", "run.json"):
        path = folder / name
        if not path.exists():
            continue
        content = read_json_object(path)
        public = {key: value for key, value in content.items() if key != "_name_or_path" or not is_local(value)}
        command = public.get("command")
        public = without_paths(public)
        if name == "run.json" and isinstance(command, str):
            public["command"] = command_without_paths(command)
        if public != content:
            write_json(path, public, sort_keys=name == "config.json")
