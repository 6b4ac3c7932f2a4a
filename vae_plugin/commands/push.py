"""`vae-plugin push` and `vae-plugin card`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitInfo

from ..errors import UserError
from ..hub.client import bound_waiting, check_repo_id
from ..hub.folder import class_name
from ..hub.push import push, write_card
from ..options import option, parse


@dataclass
class PushOptions:
    """Options of `vae-plugin push`."""

    folder: str | None = option(None, "Folder of a model, as training leaves it.", positional=True)
    repo_id: str | None = option(None, "Where to: user/name.", positional=True)
    private: bool = option(False, "Make the repository private, where it is made now.")
    revision: str | None = option(None, "Branch to push to, made if it is not there. Default: main.")
    create_pr: bool = option(False, "Propose it as a pull request, also to a repository of others.")
    tag: str | None = option(None, "Name of this state, such as v1.")
    commit_message: str | None = option(None, "Title of the commit. Default: 'Upload' and the class.")
    license: str | None = option(None, "Licence for the card, as the Hub names it. Default: what the card says.")
    overwrite_card: bool = option(False, "Replace what people have written in the card on the Hub.")

    def __post_init__(self) -> None:
        if self.folder is None or self.repo_id is None:
            raise UserError("give a folder and where to push it: vae-plugin push FOLDER user/name.")
        check_repo_id(self.repo_id)
        if self.create_pr and self.revision not in (None, "main"):
            raise UserError("--create_pr proposes a change of main: leave --revision out.")
        if self.create_pr and self.tag is not None:
            raise UserError("a pull request is no state to name: leave --tag out, and set it when it is merged.")


@dataclass
class CardOptions:
    """Options of `vae-plugin card`."""

    folder: str | None = option(None, "Folder of a model, as training leaves it.", positional=True)
    repo_id: str | None = option(None, "Where it is published, for the code in the card: user/name.")
    license: str | None = option(None, "Licence, as the Hub names it. Default: what the card or the run says.")
    overwrite_card: bool = option(False, "Drop what people have written in the card.")

    def __post_init__(self) -> None:
        if self.folder is None:
            raise UserError("give the folder of a model: vae-plugin card FOLDER.")
        if self.repo_id is not None:
            check_repo_id(self.repo_id)


def run_push(argv: Sequence[str] | None, prog: str) -> CommitInfo:
    """Parse the options and push."""
    options = parse(PushOptions, argv, prog=prog, description="Publish a model on the Hub, in one commit.")
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


def run_card(argv: Sequence[str] | None, prog: str) -> Path:
    """Parse the options and write the card."""
    options = parse(CardOptions, argv, prog=prog, description="Write the model card of a folder again.")
    path = write_card(
        Path(options.folder), repo_id=options.repo_id, license=options.license, overwrite_card=options.overwrite_card
    )
    print(path)
    return path
