"""All options of a fine-tuning run, in the groups that its parts are given."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ...autoencoders import Adapter
from ...errors import UserError
from ...models.quantizers.gradients import GRADIENTS
from ...models.quantizers.settings import QUANTIZERS, CodebookSettings, quantizers_with
from ...objectives import TrainingObjective
from ...options import GIVEN, declared, given_in, group, judge, options_of
from ...options.rules import check_new_model
from .data import DataSettings
from .hub import HubSettings
from .loss import LossSettings
from .model import ModelSettings
from .optimization import OptimizationSettings
from .output import OutputSettings

FLAGS = {"quantizer_type": "quantizer", "num_vq_embeddings": "codebook_size", "vq_embed_dim": "codebook_dim"}
CHOICES = {
    "quantizer_type": tuple(QUANTIZERS),
    "codebook_distance": ("euclidean", "cosine"),
    "quantizer_gradient": tuple(GRADIENTS),
}
CONDITIONS = {"num_vq_embeddings": {"fsq_levels": (None,)}}  # whose product is the number of codes
CODEBOOK = declared(
    CodebookSettings,
    {},
    **{
        field.name: {
            "flag": FLAGS.get(field.name),
            "choices": CHOICES.get(field.name),
            "of_new_model": field.name,
            "when": {"kind": ("vqvae",), "quantizer": quantizers_with(field.name), **CONDITIONS.get(field.name, {})},
        }
        for field in fields(CodebookSettings)
    },
)
OBJECTIVE = declared(
    TrainingObjective,
    {"on_resume": True, "when": {"kind": ("vae",), "loss": ("elbo",)}},
    beta={"also": ("kl_weight",)},
    warmup_steps={"flag": "kl_warmup_steps"},
    capacity_steps={"when": {"capacity": GIVEN}},
)
PHRASES = {
    ("circles", False): "has no effect on generated circles",
    ("circles", True): "needs --dataset_name circles",
    "gaussian": "needs a model with a Gaussian posterior",
    "remote_code": "is for classes that diffusers lacks",
}


@dataclass
class FinetuneOptions:
    """One training run. Every option is a flag of the command line and a key of the YAML file of `--config`."""

    model: ModelSettings = group(ModelSettings, "model")
    codebook: CodebookSettings = group(CodebookSettings, "codebook", CODEBOOK)
    data: DataSettings = group(DataSettings, "data")
    loss: LossSettings = group(LossSettings, "loss")
    objective: TrainingObjective = group(TrainingObjective, "objective", OBJECTIVE)
    optimization: OptimizationSettings = group(OptimizationSettings, "optimization")
    hub: HubSettings = group(HubSettings, "hub")
    output: OutputSettings = group(OutputSettings, "output")

    phrases: ClassVar = PHRASES
    in_full: ClassVar[frozenset[str]]  # the options of 0.1, whose files hold all of them

    def facts(self) -> dict[str, Any]:
        """What the options say together."""
        return {"circles": self.data.circles}

    def check(self) -> None:
        """Refuse combinations that concern more than one option.

        Raises:
            UserError: for the first of them.
        """
        model, data = self.model, self.data
        if data.streaming and self.optimization.max_train_steps is None:
            raise UserError("the length of a stream is not known: give --max_train_steps with --streaming.")
        if model.teacher is not None and model.is_new and model.model_type != "tiny":
            raise UserError("--teacher is for a new --model_type tiny, or an AutoencoderTiny to continue: add it.")
        if model.is_new and model.train != "all" and model.teacher is None:
            raise UserError(
                f"--train {model.train} of a new model would leave half of it random: leave it out, or give "
                "--pretrained_model_name_or_path."
            )
        if model.model_config is not None and model.is_new and "model_type" in given_in(self):
            raise UserError("--model_type and --model_config are both given: the config names the class, keep that.")

    def check_model(self, adapter: Adapter, source: str | None) -> None:
        """Refuse what would have no effect on this model.

        Args:
            adapter: of the model that is trained.
            source: what it was opened from; None for a new model.

        Raises:
            UserError: for the first option.
        """
        config = adapter.config
        given = given_in(self)
        if source is not None:
            kind = {"diffusers": None}.get(adapter.kind, adapter.kind)
            if "model_type" in given and self.model.model_type != kind:
                raise UserError(
                    f"--model_type {self.model.model_type} conflicts with {source}, which holds {adapter.class_name}. "
                    "It applies only to new models."
                )
        facts = {
            **self.facts(),
            "kind": adapter.kind,
            "loss": self.loss.name(adapter.likelihood is not None, self.model.teacher is not None),
            "gaussian": adapter.gaussian,
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

    @property
    def keeps_latents(self) -> bool:
        """Whether the latent statistics of the model stay as they are."""
        if self.output.latent_scaling == "auto":
            return self.model.train != "all" or self.loss.latent_anchor > 0 or self.model.teacher is not None
        return self.output.latent_scaling == "keep"


FinetuneOptions.in_full = frozenset(
    name
    for option in options_of(FinetuneOptions).values()
    if option.declaration.since is None
    for name in (option.name, *(n for n in option.declaration.also if n != "data_dir"))
)
