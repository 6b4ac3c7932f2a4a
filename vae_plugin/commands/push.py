"""Publish a model on the Hub, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitInfo

from ..errors import UserError
from ..hub.client import bound_waiting, check_repo_id
from ..hub.folder import class_name
from ..hub.push import push
from ..options import option, parse


@dataclass
class PushOptions:
    """Options of `vae-plugin push`."""

    folder: str = option(
        "",
        "Folder of a model, as training leaves it.",
        positional="folder",
        required="no folder given: vae-plugin push FOLDER user/name.",
    )
    repo_id: str = option(
        "",
        "Repository to push to: user/name.",
        positional="repo_id",
        required="no repository given: vae-plugin push FOLDER user/name.",
    )
    private: bool = option(False, "Make the repository private, if it is created now.")
    revision: str | None = option(None, "Branch to push to, created if it is not there. By default main.")
    create_pr: bool = option(False, "Propose the push as a pull request, which needs no right to write.")
    tag: str | None = option(None, "Name of this state, such as v1.")
    commit_message: str | None = option(None, "Title of the commit. By default 'Upload' and the class.")
    license: str | None = option(None, "Licence for the card, as the Hub names it. By default what the card says.")
    overwrite_card: bool = option(False, "Replace what people have written in the card on the Hub.")

    def check(self) -> None:
        """Refuse what no push could do.

        Raises:
            UserError: saying why.
        """
        check_repo_id(self.repo_id)
        if self.create_pr and self.revision not in (None, "main"):
            raise UserError("--create_pr proposes a change of main: leave --revision out.")
        if self.create_pr and self.tag is not None:
            raise UserError("--tag names a state, which a pull request is not yet: leave it out until it is merged.")


def run(argv: Sequence[str] | None, prog: str) -> CommitInfo:
    """Parse the options and push."""
    options = parse(PushOptions, argv, prog=prog, description=__doc__)
    class_name(Path(options.folder))  # before anything is asked of the Hub
    bound_waiting()
    info = push(
        options.folder,
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        tag=options.tag,
        commit_message=options.commit_message,
        license=options.license,
        overwrite_card=options.overwrite_card,
    )
    print(f"Pull request: {info.pr_url}" if info.pr_url else f"On the Hub: {info.commit_url}")
    return info
