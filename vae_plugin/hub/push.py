"""Publish a model on the Hub: weights, configuration, card, pictures and numbers, in one commit."""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.hf_api import RepoFile

from ..autoencoders import Adapter, adapt, load_autoencoder
from ..errors import PushError
from ..files import sha256, write_text
from ..texts import decode, read_text
from .card import model_card
from .client import hub_api, prepare_repository, retried, status_of
from .folder import WEIGHTS, class_name, forget_paths, published_files, remote_code_module, snapshot
from .front_matter import split
from .merging import lacks_a_mark, merged
from .record import RunRecord, read_json

CARD = "README.md"
ATTEMPTS_AGAINST_OTHERS = 5  # retries after commits of others


def push(
    model_or_folder: Adapter | ModelMixin | str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    license: str | None = None,
    tag: str | None = None,
    overwrite_card: bool = False,
    token: str | None = None,
) -> CommitInfo:
    """Publish an autoencoder in one commit, or in none if nothing has changed.

    Only the files of a model are sent (see `hub.folder.PUBLISHED`): weights as safetensors, config.json, metrics.json,
    pictures, the options of the run and the card. An interrupted push can be repeated: files that have arrived are not
    sent again, and no partial commit is ever visible.

    Args:
        model_or_folder: an image autoencoder, its adapter, or the folder of one, such as the output of a training run.
        repo_id: user/name, created if it does not exist.
        private: make a new repository private.
        revision: branch, created if it does not exist, by default main.
        create_pr: open a pull request, which needs no write access.
        commit_message: title of the commit, by default "Upload CLASS".
        license: licence for the card, by its id on the Hub; by default that of the card or the run.
        tag: tag for the new state, such as "v1".
        overwrite_card: replace the whole card on the Hub; otherwise hand-written parts of it stay.
        token: by default that of HF_TOKEN or `hf auth login`.

    Returns:
        huggingface_hub's `CommitInfo`, with `oid`, `commit_url`, and the `pr_url` of a pull request.

    Raises:
        UserError: if there is nothing to publish, no token, or no write access.
        PushError: if the Hub does not accept the push; it is unchanged then.
    """
    api = hub_api(token)
    with staged(model_or_folder) as folder:
        repo_id = prepare_repository(
            api, repo_id, private=private, revision=revision, create_pr=create_pr, license=license
        )
        write_card(folder, repo_id=repo_id, license=license)
        info = send(
            api,
            folder,
            repo_id,
            revision=revision,
            create_pr=create_pr,
            message=commit_message,
            tag=tag,
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
def staged(model_or_folder: Adapter | ModelMixin | str | Path) -> Iterator[Path]:
    """Yield a temporary folder with the published files only."""
    with tempfile.TemporaryDirectory(prefix="vae-plugin-push-") as root:
        target = Path(root, "model")
        if isinstance(model_or_folder, (str, Path)):
            snapshot(Path(model_or_folder), target)
        else:
            adapt(model_or_folder).save(target)
            published_files(target)  # refuses what cannot be published
        yield target


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
    record = RunRecord.load(folder)
    record.pictures = {caption: path for caption, path in record.pictures.items() if path in files}
    if license is not None:
        record.license, record.license_name, record.license_link = license, None, None
    card = model_card(
        load_autoencoder(str(folder)),
        read_json(folder / "metrics.json"),
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
    write_text(path, merged(str(card), old, license_given=license is not None))
    return path


def send(
    api: HfApi,
    folder: Path,
    repo_id: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    tag: str | None = None,
    overwrite_card: bool = False,
    license_given: bool = False,
) -> CommitInfo:
    """Commit a staged folder to an existing repository; the arguments are those of `push`.

    The card in the folder is merged with that of the repository, and becomes the one that is committed.

    Raises:
        UserError: if the metadata of the card in the repository cannot be parsed.
        PushError: if the Hub does not accept the commit.
    """
    forget_paths(folder)
    message = message or f"Upload {class_name(folder)}"
    own = read_text(folder / CARD)
    additions = {
        name: CommitOperationAdd(name, str(path)) for name, path in published_files(folder).items() if name != CARD
    }
    for _ in range(ATTEMPTS_AGAINST_OTHERS):
        head, present = retried(partial(_state, api, repo_id, revision), f"list the files of {repo_id}")
        old = retried(partial(_card_there, api, repo_id, head, present), f"read the card of {repo_id}")
        card = own if overwrite_card else merged(own, old, license_given=license_given)
        write_text(folder / CARD, card)
        operations = [
            *(add for name, add in additions.items() if not _is_there(folder / name, present.get(name))),
            *([] if card == old else [CommitOperationAdd(CARD, card.encode())]),
            *(CommitOperationDelete(name) for name in _left_over(present, additions)),
        ]
        if not operations and head is not None:
            url = f"{api.endpoint}/{repo_id}/commit/{head}"
            info = CommitInfo(commit_url=url, commit_message=message, commit_description="", oid=head)
            break
        try:
            info = _commit(api, repo_id, operations, message, revision, create_pr, head)
            break
        except PushError as error:
            if (
                status_of(error) != 412
            ):  # a commit came in between: that of somebody else, or ours, whose answer was lost
                raise
    else:
        raise PushError(f"other commits to {repo_id} keep coming in between: push again later.")
    if tag is not None:
        retried(lambda: api.create_tag(repo_id, tag=tag, revision=info.oid, exist_ok=True), f"set the tag {tag}")
    return info


def _commit(
    api: HfApi, repo_id: str, operations: list, message: str, revision: str | None, create_pr: bool, head: str | None
) -> CommitInfo:
    large = [operation for operation in operations if isinstance(operation, CommitOperationAdd)]
    retried(
        lambda: api.preupload_lfs_files(repo_id, large, revision=revision, create_pr=create_pr, free_memory=False),
        f"upload the files of {repo_id}",
    )
    return retried(
        lambda: api.create_commit(
            repo_id, operations, commit_message=message, parent_commit=head, revision=revision, create_pr=create_pr
        ),
        f"commit to {repo_id}",
        repeatable=not create_pr,  # a retry could open a second pull request
    )


def _state(api: HfApi, repo_id: str, revision: str | None) -> tuple[str | None, dict[str, RepoFile]]:
    """The head of a branch, and its files by path."""
    head = api.model_info(repo_id, revision=revision).sha
    if head is None:  # no commit yet
        return None, {}
    files = api.list_repo_tree(repo_id, recursive=True, revision=head)
    return head, {file.path: file for file in files if isinstance(file, RepoFile)}


def _card_there(api: HfApi, repo_id: str, head: str | None, present: Mapping[str, RepoFile]) -> str:
    """The card in a commit, "" if there is none.

    The listing decides whether there is one, because the client takes a file that is out of reach for a missing one.
    """
    if CARD not in present:
        return ""
    with tempfile.TemporaryDirectory() as folder:  # not the cache, which would take this commit for `main`
        path = hf_hub_download(
            repo_id, CARD, revision=head, endpoint=api.endpoint, token=api.token, local_dir=folder,
            library_name=api.library_name, library_version=api.library_version,
        )  # fmt: skip
        return decode(Path(path).read_bytes(), f"the card of {repo_id}")


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
    ours = re.compile(r"diffusion_pytorch_model(\.safetensors|-\d+-of-\d+\.safetensors|\.safetensors\.index\.json)")
    pushed = any(ours.fullmatch(name) for name in additions)
    return [name for name in present if pushed and ours.fullmatch(name) and name not in additions]
