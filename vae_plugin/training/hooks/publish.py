"""A run on the Hub: its checkpoints while it goes on, its result when it is done."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from tqdm.auto import tqdm

from ...autoencoders import Adapter
from ...errors import PushError, TrainingStopped, UserError
from ...files import write_json
from ...hub import RunRecord, model_card, push, write_card
from ...hub.background import BackgroundPush, Snapshot
from ...hub.client import hub_api
from ...hub.destination import check_ref, find_destination
from ...hub.merging import check_old, merged
from ...hub.push import check_tags, send
from ...hub.waiting import bounded_waiting
from ...notices import show, showable
from ...texts import decode
from ..average import WeightAverage
from ..failures import writing
from ..result import save_model
from ..settings import HubSettings
from .base import Hook, Step

FOLDER = ".hub"  # of snapshots that wait to be sent
LAST_WAIT = 600.0  # seconds for the push that is under way when training is done
INTERRUPTED_WAIT = 60.0  # seconds for it when the run is interrupted


class Publisher:
    """Pushes of one run, on its main process.

    Args:
        settings: of publishing.
        output_dir: of the run.

    Raises:
        UserError: now, before anything is loaded, if there is no token or it cannot write, or the card in the
            repository is broken.
        TrainingStopped: if the Hub cannot be reached.
    """

    def __init__(self, settings: HubSettings, output_dir: Path) -> None:
        self.settings = settings
        self.output_dir = output_dir
        self.folder = output_dir / FOLDER
        shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
        if settings.hub_revision is not None:
            check_ref(settings.hub_revision, "--hub_revision")
        api = hub_api()
        with _before_training():
            self.place = find_destination(
                api,
                settings.hub_model_id or output_dir.resolve().name,
                private=settings.hub_private_repo,
                revision=settings.hub_revision,
                license=settings.license,
            )
            self._card_there()  # a broken one is found now
        self.background: BackgroundPush | None = None

    def open(self, adapter: Adapter, record: RunRecord, steps: Iterable[int]) -> None:
        """Create the repository, when nothing else can be refused any more.

        Args:
            adapter: of the model, for its card.
            record: of the run so far, for the card.
            steps: of the checkpoints to come.

        Raises:
            UserError: if there is no write access, or a checkpoint's tag stands on another commit.
            TrainingStopped: if the Hub cannot be reached, or would refuse the card.
        """
        place, settings = self.place, self.settings
        with _before_training():
            if settings.hub_strategy == "checkpoint" and not settings.hub_move_tags:
                check_tags(
                    place,
                    map(_tag, steps),
                    None,
                    "--hub_move_tags",
                    "give another --hub_model_id, or --hub_strategy end, which sets none",
                )
            card = str(model_card(adapter, {}, record, repo_id=place.repo_id))
            place.check_card(merged(card, self._card_there(), license_given=settings.license is not None))
            place.create()
        disable_progress_bars()  # of uploads, which would be drawn into that of training
        if settings.hub_strategy == "checkpoint":
            self.background = BackgroundPush(lambda line: tqdm.write(showable(line, sys.stdout)))
        branch = f", branch {settings.hub_revision}" if settings.hub_revision else ""
        show(f"The result goes to {place.address}{branch}.")

    def checkpoint(self, adapter: Adapter, step: int, record: RunRecord) -> None:
        """Push the weights as they are; returns when they are on the disk.

        Args:
            adapter: of the model whose weights are copied now.
            step: for the message and the tag.
            record: of the run so far.
        """
        if self.background is None:
            return
        folder = self.folder / _tag(step)
        shutil.rmtree(folder, ignore_errors=True)
        with writing("what is sent to the Hub", folder):
            save_model(adapter, folder, remote_code=self.settings.export_remote_code)
            write_json(folder / "metrics.json", {"steps": step})
            record.save(folder)

        def send_it(folder: Path) -> None:
            with bounded_waiting():
                write_card(folder, repo_id=self.place.repo_id)
                send(
                    self.place,
                    folder,
                    message=f"Step {step:,}",
                    tag=folder.name,
                    move_tag=self.settings.hub_move_tags,
                    license_given=self.settings.license is not None,
                )

        self.background.submit(Snapshot(folder, f"step {step:,}", send_it))

    def result(self, total_steps: int) -> None:
        """Push the output folder, after what is under way.

        Raises:
            TrainingStopped: if the Hub does not take it; the folder is complete, and can be pushed again.
        """
        if self.background is not None and not self.background.finish(LAST_WAIT, drop_waiting=True):
            print("The push of a checkpoint has not ended: the result is sent beside it.")
        shutil.rmtree(self.folder, ignore_errors=True)
        enable_progress_bars()
        settings, repo_id = self.settings, self.place.repo_id
        message = f"The result, after {total_steps:,} steps"
        try:
            info = push(
                self.output_dir,
                repo_id,
                private=settings.hub_private_repo,
                revision=settings.hub_revision,
                license=settings.license,
                commit_message=message,
            )
        except (PushError, UserError, OSError) as error:
            again = ["vae-plugin", "push", str(self.output_dir), repo_id]
            again += ["--private"] if settings.hub_private_repo else []
            again += ["--revision", settings.hub_revision] if settings.hub_revision else []
            again += ["--license", settings.license] if settings.license else []
            again += ["--commit_message", message]
            reason = str(error).rstrip(".")
            raise TrainingStopped(
                f"training is done and the result in {self.output_dir} is complete, but {reason}. Send it with: "
                f"{shlex.join(again)}"
            ) from error
        show(f"Pushed: {info.commit_url}")

    def _card_there(self) -> str:
        card = decode(self.place.card(self.place.state()), f"the card of {self.place.repo_id}")
        try:
            check_old(card)
        except UserError as error:
            raise UserError(
                f"the card of {self.place.repo_id} is broken, and the result could not be pushed there. Correct it on "
                f"the Hub, or give another --hub_model_id. ({error})"
            ) from error
        return card

    def interrupted(self) -> None:
        """Wait a little for what is under way."""
        if self.background is not None:
            self.background.finish(INTERRUPTED_WAIT, drop_waiting=True)


def _tag(step: int) -> str:
    return f"step-{step:06d}"


@contextmanager
def _before_training() -> Iterator[None]:
    """Talk to the Hub before the first step, and end the run there if that fails."""
    try:
        with bounded_waiting():
            yield
    except PushError as error:
        raise TrainingStopped(
            f"{str(error).rstrip('.')}. Nothing was trained: leave --push_to_hub out, or try later."
        ) from error


class PublishHook(Hook):
    """Pushes the weights of every checkpoint but the last, whose result follows.

    Args:
        publisher: of the run; None on other processes, and where nothing is published.
        adapter: of the model.
        average: of the weights.
        record: of the run so far.
        every: steps between two checkpoints.
    """

    def __init__(
        self,
        publisher: Publisher | None,
        adapter: Adapter,
        average: WeightAverage,
        record: Callable[[], RunRecord],
        every: int,
    ) -> None:
        super().__init__(None if publisher is None else every)
        self.publisher, self.adapter, self.average, self.record = publisher, adapter, average, record

    def act(self, step: Step) -> None:
        """Push the averaged weights in the background."""
        if self.publisher is not None and not step.is_last:
            with self.average.applied():
                self.publisher.checkpoint(self.adapter, step.number, self.record())
