"""The options of publishing a run on the Hub."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError
from ..options import option


@dataclass
class HubOptions:
    """What `vae_plugin/finetune.py` publishes, and where."""

    push_to_hub: bool = option(
        False, "Publish the result on the Hub; the token is HF_TOKEN or that of `hf auth login`.", group="hub"
    )
    hub_model_id: str | None = option(None, "user/name there. Default: the name of --output_dir.", group="hub")
    hub_private_repo: bool = option(False, "Make it private, where it is made now.", group="hub")
    hub_revision: str | None = option(None, "Branch to push to. Default: main.", group="hub")
    hub_strategy: str = option(
        "checkpoint",
        "'checkpoint' pushes the weights of every checkpoint too, in the background and tagged step-N; 'end' only the "
        "result.",
        choices=("checkpoint", "end"),
        group="hub",
    )
    license: str | None = option(
        None, "Licence of the weights for the card, as the Hub names it. Default: that of the base model.", group="hub"
    )
    export_remote_code: bool = option(
        False, "Put a module beside the weights for trust_remote_code, without this package.", group="hub"
    )

    def _check_hub(self) -> None:
        if self.push_to_hub:
            return
        for name in ("hub_model_id", "hub_private_repo", "hub_revision"):
            if getattr(self, name):
                raise UserError(f"--{name} is given without --push_to_hub: add it.")
