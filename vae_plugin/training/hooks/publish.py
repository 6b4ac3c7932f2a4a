"""A run on the Hub: its checkpoints while it goes on, its result when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from tqdm.auto import tqdm

from ...autoencoders import Adapter
from ...errors import PushError, TrainingStopped
from ...files import write_json
from ...hub import RunRecord, push, write_card
from ...hub.background import BackgroundPush, Snapshot
from ...hub.client import bound_waiting, hub_api, prepare_repository
from ...hub.push import send
from ..average import WeightAverage
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
        UserError: now, before the first step, if there is no token or it may not write to the repository.
        TrainingStopped: if the Hub cannot be reached.
    """

    def __init__(self, settings: HubSettings, output_dir: Path) -> None:
        bound_waiting()
        self.settings = settings
        self.output_dir = output_dir
        self.folder = output_dir / FOLDER
        shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
        self.api = hub_api()
        try:
            self.repo_id = prepare_repository(
                self.api,
                settings.hub_model_id or output_dir.resolve().name,
                private=settings.hub_private_repo,
                revision=settings.hub_revision,
                license=settings.license,
            )
        except PushError as error:
            raise TrainingStopped(f"{error}. Nothing was trained: leave --push_to_hub out, or try later.") from error
        disable_progress_bars()  # of uploads, which would be drawn into that of training
        self.background = BackgroundPush(tqdm.write) if settings.hub_strategy == "checkpoint" else None
        branch = f", branch {settings.hub_revision}" if settings.hub_revision else ""
        print(f"The result goes to {self.api.endpoint}/{self.repo_id}{branch}.")

    def checkpoint(self, adapter: Adapter, step: int, record: RunRecord) -> None:
        """Push the weights as they are; returns when they are on the disk.

        Args:
            adapter: of the model whose weights are copied now.
            step: for the message and the tag.
            record: of the run so far.
        """
        if self.background is None:
            return
        folder = self.folder / f"step-{step:06d}"
        shutil.rmtree(folder, ignore_errors=True)
        save_model(adapter, folder, remote_code=self.settings.export_remote_code)
        write_json(folder / "metrics.json", {"steps": step})
        record.save(folder)

        def send_it(folder: Path) -> None:
            write_card(folder, repo_id=self.repo_id)
            send(
                self.api,
                folder,
                self.repo_id,
                revision=self.settings.hub_revision,
                message=f"Step {step:,}",
                tag=folder.name,
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
        again = f"vae-plugin push {self.output_dir} {self.repo_id}"
        try:
            info = push(
                self.output_dir,
                self.repo_id,
                revision=self.settings.hub_revision,
                license=self.settings.license,
                commit_message=f"The result, after {total_steps:,} steps",
            )
        except (PushError, OSError) as error:
            raise TrainingStopped(
                f"training is done and the result in {self.output_dir} is complete, but {error}. Send it with: {again}"
            ) from error
        print(f"Pushed: {info.commit_url}")

    def interrupted(self) -> None:
        """Wait a little for what is under way."""
        if self.background is not None:
            self.background.finish(INTERRUPTED_WAIT, drop_waiting=True)


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
