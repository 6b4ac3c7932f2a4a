"""A run on the Hub: its checkpoints while it goes on, its result when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from tqdm.auto import tqdm

from ..errors import PushError, TrainingStopped
from ..files import write_json
from ..hub import RunRecord, push, write_card
from ..hub.background import BackgroundPush, Snapshot
from ..hub.client import bound_waiting, hub_api, prepare_repository
from ..hub.push import send
from .finetune_options import FinetuneOptions
from .output import save_model

FOLDER = ".hub"  # of snapshots that wait to be sent
LAST_WAIT = 600.0  # seconds for the push that is under way when training is done


class Publisher:
    """Pushes of one run, on its main process.

    Args:
        options: of the run.

    Raises:
        UserError: now, before the first step, if there is no token or it may not write to the repository.
        PushError: if the Hub cannot be reached.
    """

    def __init__(self, options: FinetuneOptions) -> None:
        bound_waiting()
        self.options = options
        self.output_dir = Path(options.output_dir)
        self.folder = self.output_dir / FOLDER
        shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
        self.api = hub_api()
        try:
            self.repo_id = prepare_repository(
                self.api,
                options.hub_model_id or self.output_dir.resolve().name,
                private=options.hub_private_repo,
                revision=options.hub_revision,
                license=options.license,
            )
        except PushError as error:
            raise TrainingStopped(f"{error}. Nothing was trained: leave --push_to_hub out, or try later.") from error
        disable_progress_bars()  # of uploads, which would be drawn into that of training
        self.background = BackgroundPush(tqdm.write) if options.hub_strategy == "checkpoint" else None
        branch = f", branch {options.hub_revision}" if options.hub_revision else ""
        print(f"The result goes to {self.api.endpoint}/{self.repo_id}{branch}.")

    def checkpoint(self, model: ModelMixin, step: int, record: Callable[[], RunRecord]) -> None:
        """Push the weights as they are; returns when they are on the disk.

        Args:
            model: whose weights are copied now.
            step: for the message and the tag.
            record: of the run so far.
        """
        if self.background is None:
            return
        folder = self.folder / f"step-{step:06d}"
        shutil.rmtree(folder, ignore_errors=True)
        save_model(model, folder, remote_code=self.options.export_remote_code)
        write_json(folder / "metrics.json", {"steps": step})
        record().save(folder)

        def send_it(folder: Path) -> None:
            write_card(folder, repo_id=self.repo_id)
            send(
                self.api,
                folder,
                self.repo_id,
                revision=self.options.hub_revision,
                message=f"Step {step:,}",
                tag=folder.name,
                license_given=self.options.license is not None,
            )

        self.background.submit(Snapshot(folder, f"step {step:,}", send_it))

    def result(self) -> None:
        """Push the output folder, after what is under way.

        Raises:
            TrainingStopped: if the Hub does not take it; the folder is whole, and can be pushed again.
        """
        options = self.options
        if self.background is not None and not self.background.finish(LAST_WAIT, drop_waiting=True):
            print("The push of a checkpoint has not ended: the result is sent beside it.")
        shutil.rmtree(self.folder, ignore_errors=True)
        enable_progress_bars()
        again = f"vae-plugin push {options.output_dir} {self.repo_id}"
        try:
            info = push(
                self.output_dir,
                self.repo_id,
                revision=options.hub_revision,
                license=options.license,
                commit_message=f"The result, after {options.max_train_steps:,} steps"
                if options.max_train_steps
                else None,
            )
        except (PushError, OSError) as error:
            raise TrainingStopped(
                f"training is done and the result in {options.output_dir} is whole, but {error}. Send it with: {again}"
            ) from error
        print(f"Pushed: {info.commit_url}")

    def interrupted(self) -> None:
        """Wait a little for what is under way."""
        if self.background is not None:
            self.background.finish(60.0, drop_waiting=True)
