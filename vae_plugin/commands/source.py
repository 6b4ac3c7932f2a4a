"""The model that a command works on: options declared once for all commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download

from ..autoencoders import Adapter, load_autoencoder
from ..hub.record import FILE_NAME as RUN_FILE
from ..hub.record import RunRecord
from ..options import option
from ..training.settings.opening import padding_mode


@dataclass
class ModelSource:
    """Options that say where a model is, in a folder, a file or on the Hub."""

    pretrained_model_name_or_path: str = option(
        "",
        "Model: a folder, a Hub id or a .safetensors file.",
        path=True,
        positional="model",
        required="no model given: name a folder, a Hub id or a .safetensors file.",
    )
    subfolder: str | None = option(None, "Subfolder of the model in its folder or repository, such as vae.")
    revision: str | None = option(None, "Branch, tag or commit of the repository on the Hub.")
    variant: str | None = option(
        None, "Variant of the weights, such as fp16 of diffusion_pytorch_model.fp16.safetensors."
    )
    model_config: str | None = option(
        None, "config.json of the model in a single file. By default that of its metadata or its folder.", path=True
    )

    padding_mode: str | None = padding_mode()

    def open(self) -> Adapter:
        """Load the model, in evaluation mode.

        Raises:
            UserError: if it cannot be loaded.
        """
        adapter = load_autoencoder(
            self.pretrained_model_name_or_path, self.subfolder, self.revision, self.model_config, self.variant
        )
        if self.padding_mode is not None:
            adapter.set_padding_mode(self.padding_mode)
        adapter.model.eval()
        return adapter

    def record(self) -> RunRecord:
        """What run.json beside the model tells of its training; an empty record where there is none.

        Raises:
            UserError: if a local run.json was damaged.
        """
        source = Path(self.pretrained_model_name_or_path)
        if source.exists():
            return RunRecord.load((source if source.is_dir() else source.parent) / (self.subfolder or ""))
        try:
            file = hf_hub_download(str(source), RUN_FILE, subfolder=self.subfolder, revision=self.revision)
            return RunRecord.load(Path(file).parent)
        except (OSError, ValueError, RuntimeError):  # none there, or out of reach
            return RunRecord()


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
