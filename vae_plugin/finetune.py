"""Train an autoencoder from scratch, or fine-tune an existing one.

    accelerate launch vae_plugin/finetune.py --dataset_name circles --output_dir OUT
    vae-plugin finetune --train_data_dir PHOTOS --output_dir OUT

`train` is the story of one run, to be read from top to bottom. Its parts are in `vae_plugin/training/`: `run` builds
them, `trainee` changes the weights, `hooks` act beside, `ending` writes the result.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __package__ in (None, ""):
    # Run as a file: Python has put this folder first in its search path, where `datasets` would be found in place of
    # the library of that name.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of the imports; `exit_status` takes it back

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch

from vae_plugin.errors import exit_status
from vae_plugin.models.distributed import let_communication_end
from vae_plugin.options import build, parse
from vae_plugin.signals import Interrupted, signal_of
from vae_plugin.training.accelerator import make_accelerator
from vae_plugin.training.checkpoints import list_checkpoints
from vae_plugin.training.ending import finish
from vae_plugin.training.evaluation import save_base
from vae_plugin.training.failures import StepFailed
from vae_plugin.training.interrupts import InterruptRequest
from vae_plugin.training.launch import start_missing_processes
from vae_plugin.training.main_process import on_main
from vae_plugin.training.memory import fitting, step_without_memory
from vae_plugin.training.output_folder import output_folder
from vae_plugin.training.own_data import Given
from vae_plugin.training.run import Run, build_run
from vae_plugin.training.settings import FinetuneOptions
from vae_plugin.training.trainee import TermMeans


def train(
    options: FinetuneOptions,
    perceptual: torch.nn.Module | None = None,
    interrupt: InterruptRequest | None = None,
    *,
    dataset: Any = None,
    validation_dataset: Any = None,
    discriminator: torch.nn.Module | None = None,
) -> dict[str, Any] | None:
    """One training run, from the options to the folder `output_dir`.

    Images of one's own need no files:

        class Squares(torch.utils.data.Dataset):
            def __len__(self):
                return 1000

            def __getitem__(self, i):  # an image (C, H, W) in [-1, 1]
                image = torch.full((3, 32, 32), -1.0)
                image[:, i % 20 : i % 20 + 8, i // 50 : i // 50 + 8] = 1.0
                return image

        train(options(max_train_steps=100, output_dir="out"), dataset=Squares())

    Args:
        options: of the run.
        perceptual: a perceptual distance (x, y) -> (B,) instead of the one that `--perceptual_loss` names.
        interrupt: learns which signal ended the run, if one did.
        dataset: images to train on instead of those that options name: any data set with a length and items by number,
            which are float tensors (C, H, W) in [-1, 1], dicts with them as "pixel_values", or tuples that begin with
            them, all of one shape. Random augmentation by torch, NumPy or `random` is repeated by a continued run.
        validation_dataset: images to measure on, of the same shape. By default some of `dataset` are held out.
        discriminator: a network, images (B, C, H, W) -> logits (B, ...), positive for real images, instead of the one
            that options describe; give `--disc_start` too. It is trained itself, saved with checkpoints and the result,
            and a continued run sets the weights of the one it is given.

    Returns:
        The content of metrics.json (on the main process), or None if the run was interrupted and can be continued.

    Raises:
        UserError: if the options cannot work.
        TrainingStopped: if training cannot continue, or its result cannot be published.
    """
    accelerator = make_accelerator(options)
    with output_folder(accelerator, Path(options.output.output_dir)):
        with fitting():
            run = build_run(options, accelerator, Given(dataset, validation_dataset, perceptual, discriminator))
        try:
            measure_base(run)
            return finish(run) if take_steps(run, interrupt or InterruptRequest()) else None
        except StepFailed as failure:
            raise run.stopped(failure) from failure
        except (MemoryError, RuntimeError) as error:
            raise run.stopped(step_without_memory(error)) from error
        finally:
            let_communication_end(accelerator.num_processes)


def take_steps(run: Run, interrupt: InterruptRequest) -> bool:
    """Train from where the run stands to its last step; False if it was interrupted and can be continued."""
    with interrupt:
        batches = run.data.batches(run.state, run.loss.noise_shape, run.loss.has_alpha)
        while run.state.step < run.total_steps:
            means = TermMeans()
            for batch in islice(batches, run.batches_per_step):
                with run.accelerator.accumulate(*run.modules):
                    terms = run.autoencoder.module(batch.images, batch.noise, run.state.step, batch.backgrounds)
                    reconstruction = terms.pop("reconstruction", None)
                    numbers = run.autoencoder.update(terms)
                    if run.discriminator is not None and run.state.step >= run.discriminator.first_step:
                        # On the same batch and its reconstruction just made; no gradient leads back to it.
                        terms = run.discriminator.module(batch.images, reconstruction, batch.backgrounds)
                        numbers = {**run.discriminator.update(terms), **numbers}
                means.add(numbers)
                run.state.saw(run.data.global_batch, batch.positions)
            run.after_step(means.result())
            if interrupt.requested_anywhere(run.accelerator):
                run.interrupted()
                return False
    return True


def options(**values: Any) -> FinetuneOptions:
    """The options of a run by their names on the command line: `train(options(train_data_dir="photos"))`.

    Raises:
        UserError: for a name or a value that is not accepted.
    """
    return build(FinetuneOptions, values)


def measure_base(run: Run) -> None:
    """Measure what the result is compared with: the model before its first step, or the teacher of a new decoder."""
    if run.state.step:
        return
    if run.accelerator.is_main_process:
        run.base_file.unlink(missing_ok=True)
        run.pictures.base_file.unlink(missing_ok=True)
    if run.options.model.base is not None and (run.base is not None or run.options.model.in_channels is None):
        remedy = "So it was before the first step: check the weights of that model"
        measured = run.evaluator.measure(remedy, clips=True, base=run.base)

        def keep() -> None:
            save_base(measured, run.base_file)
            run.pictures.keep_base(run.base)

        on_main(run.accelerator, keep)


def main(argv: Sequence[str] | None, prog: str) -> None:
    """Parse the options and train, in all the processes that were asked for."""
    argv = sys.argv[1:] if argv is None else argv
    options = parse(FinetuneOptions, argv, prog=prog, description=(__doc__ or "").split("\n", 1)[0])
    start_missing_processes("vae_plugin.finetune", argv)
    interrupt = InterruptRequest()
    try:
        train(options, interrupt=interrupt)
    except KeyboardInterrupt as error:
        saved = list_checkpoints(Path(options.output.output_dir))
        advice = "continue with --resume_from_checkpoint latest." if saved else ""
        raise Interrupted(signal_of(error), advice) from error
    if interrupt.ended_by is not None:
        raise Interrupted(interrupt.ended_by)  # how to continue was said when it was saved


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(None, "finetune.py")))
