"""A whole pipeline on the Hub: which of its files are published, and a card that says how it opens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from .. import distribution
from ..autoencoders.padding import recorded_padding
from ..autoencoders.registry import family_of
from ..errors import UserError
from ..texts import read_json_object
from .card import PLACE, rendered

MODEL_INDEX = "model_index.json"
OWN_FILES = ("README.md", "LICENSE", MODEL_INDEX, "samples/*.png")
COMPONENT_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")  # configs, tokenizers and weights
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
PACKAGE = "vae_plugin"


@dataclass(frozen=True)
class Component:
    """A part of a pipeline, in a folder of its name.

    Attributes:
        name: such as "vae".
        library: the package of its class.
        class_name: name of its class.
    """

    name: str
    library: str
    class_name: str


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds a whole pipeline of diffusers."""
    return (folder / MODEL_INDEX).is_file() and not (folder / "config.json").is_file()


def pipeline_class(folder: Path) -> str:
    """Name of the class of a pipeline.

    Raises:
        UserError: if model_index.json does not name one of diffusers.
    """
    name = read_json_object(folder / MODEL_INDEX).get("_class_name")
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(
            f"{folder / MODEL_INDEX} does not name a pipeline of diffusers (_class_name): a pipeline with code of its "
            "own cannot be pushed, because no code is published."
        )
    return name


def components(folder: Path) -> list[Component]:
    """The parts of a pipeline that have a folder.

    Raises:
        UserError: if the folder of one is missing, or one has code of its own, which is not published.
    """
    found = []
    for name, value in read_json_object(folder / MODEL_INDEX).items():
        if name.startswith("_") or not isinstance(value, list) or value == [None, None]:
            continue
        if len(value) != 2 or not all(isinstance(word, str) for word in value) or not name.isidentifier():
            raise UserError(f"{folder / MODEL_INDEX} does not name the library and class of {name!r}: correct it.")
        component = Component(name, *value)
        if not (folder / name).is_dir():
            raise UserError(f"{folder} has no folder {name}, which its {MODEL_INDEX} names: save the pipeline again.")
        if component.library != PACKAGE and (folder / name / f"{component.library}.py").is_file():
            raise UserError(f"{folder / name} has code of its own, which is not published: {component.library}.py.")
        found.append(component)
    return found


def autoencoders(folder: Path) -> list[Component]:
    """The autoencoders in a pipeline."""
    return [component for component in components(folder) if family_of(component.class_name) is not None]


def pipeline_files(folder: Path) -> Iterator[Path]:
    """The files of a pipeline that are published; code and pickles are not.

    Raises:
        UserError: if the weights of a part are no safetensors.
    """
    for path in (*folder.iterdir(), *(folder / "samples").glob("*")):
        if any(fnmatch(path.relative_to(folder).as_posix(), pattern) for pattern in OWN_FILES) and path.is_file():
            yield path
    for component in components(folder):
        files = [path for path in (folder / component.name).iterdir() if path.is_file()]
        pickles = [path for path in files if path.suffix in PICKLES]
        if pickles and not any(path.suffix == ".safetensors" for path in files):
            raise UserError(
                f"{pickles[0]} is a pickle, which can run code when it is opened, and {component.name} has no "
                "safetensors: save the pipeline again with safe_serialization=True."
            )
        yield from (path for path in files if any(fnmatch(path.name, pattern) for pattern in COMPONENT_FILES))


def pipeline_card(folder: Path, *, repo_id: str | None = None, license: str | None = None) -> ModelCard:
    """Write the card of a pipeline, which begins with what opens it.

    Args:
        folder: of the pipeline.
        repo_id: its repository.
        license: licence by its id on the Hub.
    """
    ours = [component for component in components(folder) if component.library == PACKAGE]
    data = ModelCardData(library_name="diffusers", tags=["diffusers", *(["vae-plugin"] if ours else [])])
    if license is not None:
        data["license"] = license
    facts = {
        "class_name": pipeline_class(folder),
        "source": repo_id or PLACE,
        "install": distribution.install_command(),
        "package_url": distribution.repository(),
        "ours": ours,
        "autoencoders": autoencoders(folder),
        "padded": _padded(folder),
    }
    return rendered("pipeline", facts, data)


def _padded(folder: Path) -> dict[str, str]:
    """The autoencoders of diffusers that do not pad by zeros, and by what; ours read their config themselves."""
    found = {}
    for component in autoencoders(folder):
        config = folder / component.name / "config.json"
        mode = recorded_padding(read_json_object(config)) if config.is_file() else None
        if component.library != PACKAGE and mode not in (None, "zeros"):
            found[component.name] = str(mode)
    return found
