"""Publish a model on the Hub: weights, configuration, card, pictures and numbers, in one commit."""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete
from huggingface_hub.hf_api import RepoFile

from ..autoencoders import Adapter, adapt, load_autoencoder
from ..errors import PushError, UserError
from ..files import sha256, write_text
from ..texts import decode, read_text
from .card import model_card
from .client import hub_api, retried, status_of
from .destination import CARD, Destination, State, check_proposal, check_ref, find_destination
from .folder import WEIGHTS, class_name, forget_paths, published_files, remote_code_module, snapshot
from .front_matter import split
from .merging import check_old, lacks_a_mark, merged
from .pipelines import autoencoders, is_pipeline, pipeline_card
from .record import RunRecord, read_metrics
from .waiting import bounded_waiting

ATTEMPTS_AGAINST_OTHERS = 5  # retries after commits of others


def push(
    model_or_folder: Adapter | ModelMixin | DiffusionPipeline | str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    license: str | None = None,
    tag: str | None = None,
    move_tag: bool = False,
    overwrite_card: bool = False,
    token: str | None = None,
) -> CommitInfo:
    """Publish an autoencoder, or a whole pipeline, in one commit, or in none if nothing has changed.

    Only the files of a model are sent (see `hub.folder.PUBLISHED`): weights as safetensors, config.json, metrics.json,
    pictures, the options of the run and the card. An interrupted push can be repeated: files that have arrived are not
    sent again, and no partial commit is ever visible.

    Args:
        model_or_folder: an image autoencoder, its adapter, or the folder of one, such as the output of a training run;
            a pipeline of diffusers, or its folder.
        repo_id: user/name, created if it does not exist.
        private: make a new repository private.
        revision: branch, created if it does not exist, by default main.
        create_pr: open a pull request, which needs no write access. One of yours that proposes the same is not
            opened again.
        commit_message: title of the commit, by default "Upload CLASS".
        license: licence for the card, by its id on the Hub; by default that of the card or the run.
        tag: tag for the new state, such as "v1".
        move_tag: move the tag if it stands on another commit; otherwise that is refused before anything is sent.
        overwrite_card: replace the whole card on the Hub; otherwise hand-written parts of it stay.
        token: by default that of HF_TOKEN or `hf auth login`.

    Returns:
        huggingface_hub's `CommitInfo`, with `oid`, `commit_url`, and the `pr_url` of a pull request.

    Raises:
        UserError: if there is nothing to publish, no token, or no write access.
        PushError: if the Hub does not accept the push; it is unchanged then.
    """
    if create_pr:
        check_proposal(revision, tag)
    if tag is not None:
        check_ref(tag, "--tag")
    if revision is not None:
        check_ref(revision, "--revision")
    api = hub_api(token)
    with bounded_waiting(), staged(model_or_folder) as folder:
        place = find_destination(api, repo_id, private=private, revision=revision, create_pr=create_pr, license=license)
        write_card(folder, repo_id=place.repo_id, license=license)
        with place.refusal_leaves_nothing():
            info = send(
                place,
                folder,
                message=commit_message,
                tag=tag,
                move_tag=move_tag,
                overwrite_card=overwrite_card,
                license_given=license is not None,
            )
        if "license" not in split(read_text(folder / CARD))[0]:
            print(
                "The card names no licence, and without one others may not use the weights: push again with a licence.",
                file=sys.stderr,
            )
        return info


@contextmanager
def staged(model_or_folder: Adapter | ModelMixin | DiffusionPipeline | str | Path) -> Iterator[Path]:
    """Yield a temporary folder with the published files only."""
    with tempfile.TemporaryDirectory(prefix="vae-plugin-push-") as root:
        target = Path(root, "model")
        if isinstance(model_or_folder, (str, Path)):
            snapshot(Path(model_or_folder), target)
        elif isinstance(model_or_folder, DiffusionPipeline):
            model_or_folder.save_pretrained(target)
            published_files(target)
        else:
            adapt(model_or_folder).save(target)
            published_files(target)  # refuses what cannot be published
        # Refuses weights that do not fit, before anything is asked of the Hub.
        for folder in [target / part.name for part in autoencoders(target)] if is_pipeline(target) else [target]:
            load_autoencoder(str(folder))
        yield target


def check_card(folder: Path) -> None:
    """Refuse a folder whose README.md could not be kept by `write_card`, before the hours of work for its card.

    Raises:
        UserError: if it is no text in UTF-8, or its metadata cannot be parsed.
    """
    if (folder / CARD).exists():
        check_old(read_text(folder / CARD))


def write_card(
    folder: Path, *, repo_id: str | None = None, license: str | None = None, overwrite_card: bool = False
) -> Path:
    """Write FOLDER/README.md from config.json, metrics.json, run.json and the weights.

    Args:
        folder: folder of a model.
        repo_id: repository of the model, for the code in the card.
        license: licence by its id on the Hub, by default that of the card or the run.
        overwrite_card: replace the whole card; otherwise hand-written parts of it stay.

    Returns:
        The path of the card.
    """
    files = published_files(folder)
    if is_pipeline(folder):
        card = pipeline_card(folder, repo_id=repo_id, license=license)
    else:
        record = RunRecord.load(folder)
        record.pictures = {caption: path for caption, path in record.pictures.items() if path in files}
        if license is not None:
            record.license, record.license_name, record.license_link = license, None, None
        card = model_card(
            load_autoencoder(str(folder)),
            read_metrics(folder),
            record,
            repo_id=repo_id,
            files={name: sha256(path) for name, path in files.items() if fnmatch(name, WEIGHTS[0])},
            remote_code=remote_code_module(folder),
        )
    path = folder / CARD
    old = read_text(path) if path.exists() and not overwrite_card else ""
    if lacks_a_mark(old):
        print(
            f"{path}: a mark of the generated part is missing, so that all text in it was kept as yours. Delete what "
            "you did not write.",
            file=sys.stderr,
        )
    write_text(path, _merged(folder, str(card), old, license is not None))
    return path


def send(
    place: Destination,
    folder: Path,
    *,
    message: str | None = None,
    tag: str | None = None,
    move_tag: bool = False,
    overwrite_card: bool = False,
    license_given: bool = False,
) -> CommitInfo:
    """Commit a staged folder; the arguments are those of `push`.

    The card in the folder is merged with that of the repository, and becomes the one that is committed.

    Raises:
        UserError: if the metadata of the card in the repository cannot be parsed, or the tag stands elsewhere.
        PushError: if the Hub does not accept the commit.
    """
    forget_paths(folder)
    message = message or f"Upload {class_name(folder)}"
    change = Change(folder, overwrite_card, license_given)
    if not place.exists:  # with no tag and no card that could be in the way
        place.check_card(change.card(b""))
        place.create()
    for _ in range(ATTEMPTS_AGAINST_OTHERS):
        state = place.state()
        old = place.card(state)
        card, operations = change.card(old), change.operations(state, old)
        write_text(folder / CARD, card)
        unchanged = state.head if not operations else None
        if tag is not None and not move_tag:
            check_tags(place, [tag], unchanged, "--move_tag", "give another --tag")
        if unchanged is not None:
            info = place.commit_info(unchanged, message)
            break
        place.check_card(card)
        place.create()
        try:
            found = partial(_proposed, place, change) if place.create_pr else None
            info = (found() if found else None) or _commit(place, operations, message, state, found)
            break
        except PushError as error:
            if status_of(error) != 412:  # a commit came in between: that of somebody else, or ours, with a lost answer
                raise
    else:
        raise PushError(f"other commits to {place.repo_id} keep coming in between: push again later.")
    if tag is not None:
        place.set_tag(tag, info.oid, move_tag)
    return info


def check_tags(place: Destination, tags: Iterable[str], commit: str | None, move: str, instead: str) -> None:
    """Refuse tags that stand on other commits.

    Args:
        place: of the push.
        tags: that the push will set.
        commit: that they may stand on already.
        move: option that moves them.
        instead: what else the user can do.

    Raises:
        UserError: for the first of them.
    """
    standing = place.tags()
    for tag in tags:
        if tag in standing and standing[tag] != commit:
            raise UserError(
                f"{place.repo_id} has the tag {tag} already, on commit {standing[tag][:8]}, and nothing was sent: give "
                f"{move} to move it, or {instead}."
            )


@dataclass
class Change:
    """What a staged folder changes in a repository.

    Attributes:
        folder: staged.
        overwrite_card: whether the card in the repository is replaced.
        license_given: whether the licence in it is replaced.
    """

    folder: Path
    overwrite_card: bool = False
    license_given: bool = False

    def __post_init__(self) -> None:
        self._own_card = read_text(self.folder / CARD)
        self._files = {name: path for name, path in published_files(self.folder).items() if name != CARD}
        self._additions = {name: CommitOperationAdd(name, str(path)) for name, path in self._files.items()}

    def card(self, old: bytes) -> str:
        """The card that takes the place of an old one.

        Raises:
            UserError: if the old one cannot be read.
        """
        if self.overwrite_card:
            return self._own_card
        return _merged(self.folder, self._own_card, decode(old, "the card on the Hub"), self.license_given)

    def operations(self, state: State, old: bytes) -> list[Any]:
        """The operations of a commit on top of a state with an old card; none if it holds all of this."""
        card = self.card(old).encode()
        return [
            *(add for name, add in self._additions.items() if not _is_there(self._files[name], state.files.get(name))),
            *([] if card == old else [CommitOperationAdd(CARD, card)]),
            *(CommitOperationDelete(name) for name in _left_over(state.files, self._additions)),
        ]


def _merged(folder: Path, card: str, old: str, license_given: bool) -> str:
    """The card of a folder, merged with an old one."""
    if is_pipeline(
        folder
    ):  # of which only its library is known; and nothing opens before the import at its top is done
        return merged(card, old, license_given=license_given, keys=("library_name",), on_top=True)
    return merged(card, old, license_given=license_given)


def _commit(
    place: Destination,
    operations: list[Any],
    message: str,
    state: State,
    found: Callable[[], CommitInfo | None] | None = None,
) -> CommitInfo:
    api, large = place.api, [operation for operation in operations if isinstance(operation, CommitOperationAdd)]
    more: dict[str, Any] = {"revision": place.revision, "create_pr": place.create_pr}
    retried(
        lambda: api.preupload_lfs_files(place.repo_id, large, free_memory=False, **more),
        f"upload the files of {place.repo_id}",
    )
    return retried(
        lambda: api.create_commit(place.repo_id, operations, commit_message=message, parent_commit=state.head, **more),
        f"commit to {place.repo_id}",
        found=found,
    )


def _proposed(place: Destination, change: Change) -> CommitInfo | None:
    """A pull request of ours that has the content already, such as that of an attempt whose answer was lost."""
    for number, title in place.pull_requests():
        state = place.state(f"refs/pr/{number}")
        try:
            if change.operations(state, place.card(state)):
                continue
        except UserError:  # a card that was broken there
            continue
        return place.commit_info(state.head, title, number)
    return None


def _is_there(path: Path, present: RepoFile | None) -> bool:
    """Whether a file in the repository has the same content, by its hash in git or LFS."""
    if present is None or present.size != path.stat().st_size:
        return False
    if present.lfs is not None:
        return present.lfs.sha256 == sha256(path)
    content = path.read_bytes()
    return present.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _left_over(present: Mapping[str, RepoFile], additions: Mapping[str, CommitOperationAdd]) -> list[str]:
    """Weights of an earlier push with other shards, whose index would be read first."""
    weights = re.compile(
        r"(?P<part>(?:.*/)?(?:diffusion_pytorch_)?model)"
        r"(?:\.safetensors|-\d+-of-\d+\.safetensors|\.safetensors\.index\.json)"
    )
    pushed = {match["part"] for name in additions if (match := weights.fullmatch(name))}
    return [
        name
        for name in present
        if name not in additions and (match := weights.fullmatch(name)) and match["part"] in pushed
    ]
