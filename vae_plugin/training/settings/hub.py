"""What of a run is published on the Hub, and where."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import GIVEN, option

PUSHED = {"push_to_hub": GIVEN}


@dataclass
class HubSettings:
    """Settings of publishing."""

    push_to_hub: bool = option(
        False,
        "Publish the result on the Hub. The token comes from HF_TOKEN or `hf auth login`.",
        common=True,
        on_resume=True,
    )
    hub_model_id: str | None = option(
        None, "Repository on the Hub, as user/name. By default the name of --output_dir.", when=PUSHED, on_resume=True
    )
    hub_private_repo: bool = option(
        False, "Make the repository private, if the run creates it.", when=PUSHED, on_resume=True
    )
    hub_revision: str | None = option(None, "Branch to push to. By default main.", when=PUSHED, on_resume=True)
    hub_strategy: str = option(
        "checkpoint",
        "When to push: 'checkpoint' also pushes the weights of every checkpoint, in the background and tagged step-N; "
        "'end' pushes only the result.",
        choices=("checkpoint", "end"),
        when=PUSHED,
        on_resume=True,
    )
    hub_move_tags: bool = option(
        False,
        "Move the tags step-N of an earlier run in the repository to the checkpoints of this one.",
        when={"push_to_hub": GIVEN, "hub_strategy": ("checkpoint",)},
        on_resume=True,
        since="0.2",
    )
    license: str | None = option(
        None,
        "Licence of the weights for the card, by its name on the Hub. By default that of the base model.",
        on_resume=True,
    )
    export_remote_code: bool = option(
        False,
        "Save a module beside the weights, so that trust_remote_code loads them without this package.",
        when={"remote_code": (True,)},
        on_resume=True,
    )
