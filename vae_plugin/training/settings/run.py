"""All options of a fine-tuning run, in the groups that its parts are given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from ...autoencoders import Adapter
from ...datasets.files import split_name
from ...datasets.paths import lies_under
from ...errors import UserError
from ...models.quantizers.gradients import GRADIENTS
from ...models.quantizers.settings import QUANTIZERS, CodebookSettings, quantizers_with
from ...objectives import WEIGHTS, TrainingObjective
from ...options import GIVEN, UNKNOWN, Except, declared, given_in, group, judge, options_of
from ...options.fields import excused_in
from ...options.rules import check_new_model
from .data import DataSettings
from .hub import HubSettings
from .loss import LossSettings
from .model import ModelSettings
from .moved import read_where_it_lies
from .opening import checked_range
from .optimization import OptimizationSettings
from .output import OutputSettings

FLAGS = {"quantizer_type": "quantizer", "num_vq_embeddings": "codebook_size", "vq_embed_dim": "codebook_dim"}
CHOICES = {
    "quantizer_type": tuple(QUANTIZERS),
    "codebook_distance": ("euclidean", "cosine"),
    "quantizer_gradient": tuple(GRADIENTS),
}
CONDITIONS = {"num_vq_embeddings": {"fsq_levels": (None,)}}  # whose product is the number of codes
LARGEST = {"vq_embed_dim": 2**16, "num_quantizers": 2**10, "fsq_levels": 2**16}
CODEBOOK = declared(
    CodebookSettings,
    {},
    **{
        field.name: {
            "flag": FLAGS.get(field.name),
            "choices": CHOICES.get(field.name),
            "of_new_model": field.name,
            "at_most": LARGEST.get(field.name),
            "when": {"kind": ("vqvae",), "quantizer": quantizers_with(field.name), **CONDITIONS.get(field.name, {})},
        }
        for field in fields(CodebookSettings)
    },
)
FLAGS = {"warmup_steps": "kl_warmup_steps"}  # where a flag has another name than its field
OF_KL = {"train": Except("decoder")}  # which leaves the KL as it is
SCHEDULE = {**OF_KL, "beta": Except(0.0)}
OBJECTIVE = declared(
    TrainingObjective,
    {"on_resume": True, "when": {"kind": ("vae",), "loss": ("elbo",)}},
    beta={"also": ("kl_weight",), "when": OF_KL},
    warmup_steps={"flag": FLAGS["warmup_steps"], "when": SCHEDULE},
    free_bits={"when": SCHEDULE},
    capacity={"when": SCHEDULE},
    tc_weight={
        "also": ("total_correlation_weight",),
        "when": {"free_bits": (0.0,), "capacity": (None,), **SCHEDULE},
        "since": "0.2",
    },
    num_importance_samples={
        "at_least": 1,
        "at_most": 2**16,
        "when": {FLAGS.get(name, name): (getattr(TrainingObjective, name),) for name in WEIGHTS},
        "since": "0.2",
    },
    capacity_steps={
        "help": "Steps over which the target of --capacity rises from 0; with 0 it holds from the start.",
        "when": {"capacity": GIVEN, **SCHEDULE},
    },
)
PHRASES: dict[Any, str] = {
    ("circles", False): "has no effect on generated circles",
    ("from_python", False): "has no effect on a data set that is given from Python",
    ("circles", True): "needs --dataset_name circles",
    "image_channels": "is about images of 4 channels, and the model takes {value}",
    "gaussian": "needs a model with a Gaussian posterior",
    "remote_code": "is for classes that diffusers lacks",
    **{
        f"without_{name}": f"has no effect on --optimizer {{value}}, which has no {words}"
        for name, words in {
            "betas": "pair of betas",
            "eps": "eps of one number",
            "weight_decay": "weight_decay",
        }.items()
    },
    "trains_on_images": "has no effect on --teacher with --train encoder, which learns latents alone",
}


@dataclass
class FinetuneOptions:
    """The options of one training run. Each is a flag of the command line and a key of the file of `--config`."""

    model: ModelSettings = group(ModelSettings, "model")
    codebook: CodebookSettings = group(CodebookSettings, "codebook", CODEBOOK)
    data: DataSettings = group(DataSettings, "data")
    loss: LossSettings = group(LossSettings, "loss")
    objective: TrainingObjective = group(TrainingObjective, "objective", OBJECTIVE)
    optimization: OptimizationSettings = group(OptimizationSettings, "optimization")
    hub: HubSettings = group(HubSettings, "hub")
    output: OutputSettings = group(OutputSettings, "output")

    phrases: ClassVar = PHRASES
    in_full: ClassVar[frozenset[str]]  # the options of 0.1, whose files held all of them

    @classmethod
    def read_at(cls, path: Path, values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a file of options that lies at `path`, beside the flags that are given."""
        return read_where_it_lies(cls, path, values, flags)

    def facts(self) -> dict[str, Any]:
        """Facts that decide which options apply, as far as they are known before the model is open."""
        model = self.model
        facts: dict[str, Any] = {
            "circles": self.data.circles,
            "from_python": bool(self.data.from_python),
            "trains_on_images": model.teacher is None or model.train != "encoder",
            **self.optimization.facts(),
        }
        if model.new_decoder:
            facts["train"] = "decoder"
        if model.source is not None:  # the model knows, not the options of a new one
            facts |= {
                name: UNKNOWN
                for name, opt in options_of(type(self)).items()
                if opt.declaration.of_new_model is not None
            }
        return facts

    def check(self) -> None:
        """Reject combinations that no single option can rule out.

        Raises:
            UserError: for the first of them.
        """
        model, data = self.model, self.data
        if data.streaming and self.optimization.max_train_steps is None:
            raise UserError("a stream has no known length: give --max_train_steps with --streaming.")
        if data.validation_split is not None and split_name(data.validation_split) == split_name(data.dataset_split):
            raise UserError(
                f"--validation_split {data.validation_split} is the split that is trained on: give another one, or "
                "leave it out, and images of the split are held out."
            )
        self.optimization.kind.read(self.optimization.optimizer_args)
        self._check_schedule()
        checked_range(data.value_range)
        self._check_output_folder()
        self._check_new_decoder()
        if model.distils and model.is_new and model.model_type != "tiny":
            raise UserError(
                "--teacher needs a model that can learn its latents: add --model_type tiny, or give a tiny one "
                "by --pretrained_model_name_or_path. For a smaller decoder of its latents, which stay, add "
                "--decoder_block_out_channels."
            )
        if model.is_new and model.train != "all" and model.teacher is None:
            raise UserError(
                f"--train {model.train} would leave half of a new model random: leave it out, or give "
                "--pretrained_model_name_or_path."
            )
        if model.model_config is not None and model.is_new and "model_type" in given_in(self):
            raise UserError("--model_type has no effect with --model_config, which names the class: leave it out.")

    def _check_new_decoder(self) -> None:
        """Reject what a new decoder for existing latents has from elsewhere, and train the decoder alone."""
        model = self.model
        if model.decoder_block_out_channels is not None and not model.is_new:
            raise UserError(
                "--decoder_block_out_channels is for a new decoder, and the model of --pretrained_model_name_or_path "
                "has one: give it as --teacher, whose encoder is kept."
            )
        if not model.new_decoder:
            return
        for name in ("model_type", "model_config"):
            if name in given_in(self):
                raise UserError(
                    f"--{name} has no effect with --teacher and --decoder_block_out_channels, which make another "
                    "decoder for that model: leave one of them out."
                )
        if "train" in given_in(self) and model.train != "decoder":
            raise UserError(
                f"--train {model.train} would move the latents, which --decoder_block_out_channels keeps with "
                "--teacher: leave it out."
            )
        model.train = "decoder"

    def _check_output_folder(self) -> None:
        """Reject an output folder within the data, whose pictures would be data of the next run; runs go on."""
        data, output = self.data, self.output
        if output.resume_from_checkpoint is not None and (Path(output.output_dir) / "checkpoints").is_dir():
            return
        training = data.train_data_dir or ([] if data.circles else [str(data.dataset_name)])
        for folder in (*training, *(data.validation_data_dir or ())):
            if os.path.isdir(folder) and lies_under(output.output_dir, folder):
                raise UserError(
                    f"--output_dir {output.output_dir} lies in the data in {folder}, so that the pictures that a run "
                    "writes would become data: give a folder elsewhere."
                )

    def _check_schedule(self) -> None:
        """Reject the name of a schedule whose parameters make it another one.

        Runs and files of 0.1, which had no such parameters, go on.
        """
        settings = self.optimization
        if self.output.resume_from_checkpoint is not None or "lr_scheduler" in excused_in(self):
            return
        if settings.lr_scheduler == "cosine_with_restarts" and settings.lr_num_cycles == 1:
            raise UserError("--lr_scheduler cosine_with_restarts with one cycle is cosine: give --lr_num_cycles.")
        if settings.lr_scheduler == "polynomial" and not {"lr_power", "lr_end"} & given_in(self):
            raise UserError("--lr_scheduler polynomial of power 1 is linear: give --lr_power or --lr_end.")

    def check_model(self, adapter: Adapter, source: str | None) -> None:
        """Reject options that this model would ignore.

        Args:
            adapter: of the model that is trained.
            source: where the model or its config came from; None for a new model.

        Raises:
            UserError: for the first such option.
        """
        config = adapter.config
        if source is not None and "model_type" in given_in(self) and self.model.model_type != adapter.kind:
            raise UserError(
                f"--model_type {self.model.model_type} conflicts with {source}, which holds {adapter.class_name}. "
                "It applies only to new models."
            )
        facts = {
            **self.facts(),
            "kind": adapter.kind,
            "loss": next(iter(self.pixel_losses(adapter))),
            "gaussian": adapter.gaussian,
            "image_channels": adapter.in_channels,
            "remote_code": adapter.remote_code,
            "network": config.get("network") or "conv",
        }
        if adapter.likelihood is not None:
            facts["likelihood"] = config["likelihood"]
        if adapter.discrete:
            facts["quantizer"] = config["quantizer_type"]
        words = {"kind": "--model_type", "loss": "--reconstruction_loss", "kind=diffusers": adapter.class_name}
        judge(self, facts, words)
        if source is not None:
            check_new_model(self, config, source)

    def pixel_losses(self, adapter: Adapter) -> dict[str, float]:
        """The weights of the losses of pixels of a model by name, or of "elbo", see `LossSettings.pixels`."""
        return self.loss.pixels(adapter.likelihood is not None, self.model.distils, self.model.new_decoder)

    @property
    def latents_stay(self) -> bool:
        """Whether the latents, unscaled, are meant to stay those of the base model or the teacher."""
        return self.model.train != "all" or self.loss.latent_anchor > 0 or self.model.teacher is not None

    @property
    def keeps_latents(self) -> bool:
        """Whether the model keeps its latent statistics."""
        if self.output.latent_scaling == "auto":
            return self.latents_stay
        return self.output.latent_scaling == "keep"


FinetuneOptions.in_full = frozenset(
    name
    for option in options_of(FinetuneOptions).values()
    if option.declaration.since is None
    for name in (option.name, *(n for n in option.declaration.also if n != "data_dir"))
)
