"""The model that a command works on: options declared once for all commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download

from ..autoencoders import Adapter, load_autoencoder
from ..errors import UserError
from ..hub.record import FILE_NAME as RUN_FILE
from ..hub.record import RunRecord
from ..options import option
from ..training.settings.opening import padding_mode

NO_MODEL = "no model given: name a folder, a Hub id or a .safetensors file."
NONE = "."  # for a model that has no subfolder (revision, ...) beside others that have one
SUBFOLDER = "Subfolder of the model in its folder or repository, such as vae."
REVISION = "Branch, tag or commit of the repository on the Hub."
VARIANT = "Variant of the weights, such as fp16 of diffusion_pytorch_model.fp16.safetensors."
MODEL_CONFIG = "config.json of the model in a single file. By default that of its metadata or its folder."
EACH = f" Of several models: once for all, or once for each, in their order, {NONE} for none."


@dataclass(frozen=True)
class ModelPlace:
    """Where a model is.

    Attributes:
        source: a folder, a Hub id or a .safetensors file.
        subfolder: of the model in its folder or repository.
        revision: of the repository on the Hub.
        variant: of the weights.
        model_config: config.json of a model in a single file.
        padding_mode: of its convolutions, if another than its config says.
    """

    source: str
    subfolder: str | None = None
    revision: str | None = None
    variant: str | None = None
    model_config: str | None = None
    padding_mode: str | None = None

    def open(self) -> Adapter:
        """Load the model, in evaluation mode.

        Raises:
            UserError: if it cannot be loaded.
        """
        adapter = load_autoencoder(self.source, self.subfolder, self.revision, self.model_config, self.variant)
        if self.padding_mode is not None:
            adapter.set_padding_mode(self.padding_mode)
        adapter.model.eval()
        return adapter

    def record(self) -> RunRecord:
        """What run.json beside the model tells of its training; an empty record where there is none.

        Raises:
            UserError: if a local run.json was damaged.
        """
        source = Path(self.source)
        if source.exists():
            return RunRecord.load((source if source.is_dir() else source.parent) / (self.subfolder or ""))
        try:
            file = hf_hub_download(str(source), RUN_FILE, subfolder=self.subfolder, revision=self.revision)
            return RunRecord.load(Path(file).parent)
        except (OSError, ValueError, RuntimeError):  # none there, or out of reach
            return RunRecord()


@dataclass
class ModelSource:
    """Options that say where a model is, in a folder, a file or on the Hub."""

    pretrained_model_name_or_path: str = option(
        "",
        "Model: a folder, a Hub id or a .safetensors file.",
        path=True,
        positional="model",
        required=NO_MODEL,
    )
    subfolder: str | None = option(None, SUBFOLDER)
    revision: str | None = option(None, REVISION)
    variant: str | None = option(None, VARIANT)
    model_config: str | None = option(None, MODEL_CONFIG, path=True)

    padding_mode: str | None = padding_mode()

    @property
    def place(self) -> ModelPlace:
        """Where the model is."""
        return ModelPlace(
            self.pretrained_model_name_or_path,
            self.subfolder,
            self.revision,
            self.variant,
            self.model_config,
            self.padding_mode,
        )

    def open(self) -> Adapter:
        """Load the model, in evaluation mode; see `ModelPlace.open`."""
        return self.place.open()

    def record(self) -> RunRecord:
        """What run.json beside the model tells of its training; see `ModelPlace.record`."""
        return self.place.record()


@dataclass
class ModelSources:
    """Options that say where several models are; what is given once holds for all of them."""

    pretrained_model_name_or_path: tuple[str, ...] = option(
        (),
        "Models: folders, Hub ids or .safetensors files; the others are compared with the first.",
        path=True,
        alone=True,
        positional="model",
        required=NO_MODEL,
    )
    subfolder: tuple[str, ...] | None = option(None, SUBFOLDER + EACH, alone=True)
    revision: tuple[str, ...] | None = option(None, REVISION + EACH, alone=True)
    variant: tuple[str, ...] | None = option(None, VARIANT + EACH, alone=True)
    model_config: tuple[str, ...] | None = option(None, MODEL_CONFIG + EACH, path=True, alone=True)

    padding_mode: str | None = padding_mode()

    @property
    def places(self) -> dict[str, ModelPlace]:
        """Where the models are, by names that tell them apart.

        Raises:
            UserError: if an option has neither one value nor one for each model.
        """
        sources = self.pretrained_model_name_or_path
        each = {name: self._for_each(name) for name in ("subfolder", "revision", "variant", "model_config")}
        places = [
            ModelPlace(source, **{name: values[i] for name, values in each.items()}, padding_mode=self.padding_mode)
            for i, source in enumerate(sources)
        ]
        return dict(zip(distinct_names(places), places, strict=True))

    def _for_each(self, name: str) -> list[str | None]:
        values: tuple[str, ...] = getattr(self, name) or (NONE,)
        count = len(self.pretrained_model_name_or_path)
        if len(values) not in (1, count):
            raise UserError(
                f"--{name} is given {len(values)} times for {count} model(s): give it once for all of them, or once "
                f"for each, {NONE} where a model has none."
            )
        values = values * count if len(values) == 1 else values
        return [None if value == NONE else value for value in values]


def distinct_names(places: Sequence[ModelPlace]) -> list[str]:
    """Short names of models: the last part of each place, and as much of what is before it as tells them apart."""
    parts = [[*_parts(place.source), *(place.subfolder or "").split("/")] for place in places]
    parts = [[part for part in each if part] or ["model"] for each in parts]
    counts = [1 + bool(place.subfolder) for place in places]
    while True:
        names = ["/".join(each[-count:]) for each, count in zip(parts, counts, strict=True)]
        names = [
            f"{name}@{place.revision}" if place.revision else name for name, place in zip(names, places, strict=True)
        ]
        ambiguous = [
            any(name == names[j] and (each, place) != (parts[j], places[j]) for j in range(len(places)))
            for name, each, place in zip(names, parts, places, strict=True)
        ]
        longer = [
            count + (more and count < len(each)) for count, more, each in zip(counts, ambiguous, parts, strict=True)
        ]
        if longer == counts:
            break
        counts = longer
    return [f"{name} ({names[:i].count(name) + 1})" if name in names[:i] else name for i, name in enumerate(names)]


def _parts(source: str) -> list[str]:
    return (os.path.abspath(source) if os.path.exists(source) else source).split("/")


@dataclass
class ModelFolder:
    """Options that say which folder is published, and how its card is written."""

    folder: str = option(
        "",
        "Folder of a model, such as the output folder of a training run, or of a whole pipeline.",
        path=True,
        positional="folder",
        also=("pretrained_model_name_or_path",),
        required="no folder given: name the folder of a model, such as the output folder of a training run.",
    )
    license: str | None = option(
        None, "Licence of the weights, as the Hub names it. By default that of the card or the run."
    )
    overwrite_card: bool = option(False, "Replace the whole card, with what people have written in it.")
