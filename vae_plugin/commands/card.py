"""Write the model card of a folder again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..hub.destination import check_repo_id
from ..hub.push import write_card
from ..options import option, parse
from .source import ModelFolder


@dataclass
class CardOptions(ModelFolder):
    """Options of `vae-plugin card`."""

    repo_id: str | None = option(
        None, "Repository of the model, user/name, for the code in the card.", also=("hub_model_id",)
    )

    def check(self) -> None:
        """Refuse an impossible repository.

        Raises:
            UserError: if no repository can have that id.
        """
        if self.repo_id is not None:
            check_repo_id(self.repo_id)


def run(argv: Sequence[str] | None, prog: str) -> Path:
    """Parse the options and write the card."""
    options = parse(CardOptions, argv, prog=prog, description=__doc__)
    path = write_card(
        Path(options.folder), repo_id=options.repo_id, license=options.license, overwrite_card=options.overwrite_card
    )
    print(path)
    return path
