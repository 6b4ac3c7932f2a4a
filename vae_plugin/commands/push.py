"""Publish a model or a pipeline on the Hub, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitInfo

from ..hub.destination import check_proposal, check_repo_id
from ..hub.folder import class_name
from ..hub.push import push
from ..options import GIVEN, option, parse
from .source import ModelFolder


@dataclass
class PushOptions(ModelFolder):
    """Options of `vae-plugin push`."""

    repo_id: str = option(
        "",
        "Repository to push to: user/name.",
        positional="repo_id",
        also=("hub_model_id",),
        required="no repository given: name it after the folder, as user/name.",
    )
    private: bool = option(False, "Make the repository private, if the push creates it.", when={"create_pr": (False,)})
    revision: str | None = option(None, "Branch to push to, created if it does not exist. By default main.")
    create_pr: bool = option(False, "Open a pull request, which needs no write access.")
    tag: str | None = option(None, "Tag for the new state, such as v1.")
    move_tag: bool = option(False, "Move the tag, if it stands on another commit.", when={"tag": GIVEN})
    commit_message: str | None = option(None, "Title of the commit. By default 'Upload' and the class of the model.")

    def check(self) -> None:
        """Refuse options that contradict each other, and an impossible repository.

        Raises:
            UserError: for the first of them.
        """
        check_repo_id(self.repo_id)
        if self.create_pr:
            check_proposal(self.revision, self.tag)


def run(argv: Sequence[str] | None, prog: str) -> CommitInfo:
    """Parse the options and push."""
    options = parse(PushOptions, argv, prog=prog, description=__doc__)
    class_name(Path(options.folder))  # fail before the first request
    info = push(
        options.folder,
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        tag=options.tag,
        move_tag=options.move_tag,
        commit_message=options.commit_message,
        license=options.license,
        overwrite_card=options.overwrite_card,
    )
    print(f"Pull request: {info.pr_url}" if info.pr_url else f"On the Hub: {info.commit_url}")
    return info
