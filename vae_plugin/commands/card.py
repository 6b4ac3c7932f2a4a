"""Write the model card of a folder again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..hub.client import check_repo_id
from ..hub.push import write_card
from ..options import option, parse


@dataclass
class CardOptions:
    """Options of `vae-plugin card`."""

    folder: str = option(
        "",
        "Folder of a model, as training leaves it.",
        positional="folder",
        required="no folder given: vae-plugin card FOLDER.",
    )
    repo_id: str | None = option(None, "Repository of the model, for the code in the card: user/name.")
    license: str | None = option(None, "Licence, as the Hub names it. By default what the card or the run says.")
    overwrite_card: bool = option(False, "Drop what people have written in the card.")

    def check(self) -> None:
        """Refuse an id that no repository can have."""
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
