"""Train an autoencoder: from nothing, or from one that there is.

    accelerate launch vae_plugin/finetune.py --dataset_name circles --output_dir OUT
    vae-plugin finetune --train_data_dir PHOTOS --output_dir OUT

Read `train` from top to bottom: it is the story of one run. Its parts are in `vae_plugin/training/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    # Run as a file: Python has put this folder first in its search path, where `datasets` would be found in place of
    # the library of that name.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import GradientAccumulationPlugin, gather_object, set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from tqdm.auto import tqdm

from vae_plugin.autoencoders.interface import OURS
from vae_plugin.errors import UserError, exit_status
from vae_plugin.files import make_folder
from vae_plugin.hub import RunRecord
from vae_plugin.metrics import evaluate
from vae_plugin.options import parse, to_dict
from vae_plugin.training.checkpoints import (
    TrainingState,
    find_checkpoint,
    list_checkpoints,
    read_checkpoint,
    save_checkpoint,
)
from vae_plugin.training.comparison import compare_with_base, measure_base
from vae_plugin.training.curves import CurveLog
from vae_plugin.training.data import epoch_batches, image_batches, load_data
from vae_plugin.training.finetune_options import FinetuneOptions
from vae_plugin.training.interrupts import InterruptRequest
from vae_plugin.training.launch import start_missing_processes
from vae_plugin.training.model import load_teacher, make_losses, make_model, select_trained
from vae_plugin.training.optimizers import averaged_weights, make_optimizer, use_rates_of
from vae_plugin.training.option_groups import FREE_ON_RESUME
from vae_plugin.training.output import report_unreadable, save_best, save_pictures, save_result
from vae_plugin.training.publishing import Publisher
from vae_plugin.training.run_record import run_record
from vae_plugin.training.sampler import image_noise
from vae_plugin.training.sharding import prepare_sharding
from vae_plugin.training.statistics import fit_noise_scale, measured_latents, normalize_latents
from vae_plugin.training.steps import agreed, change_weights, stop
from vae_plugin.training.trackers import log_pictures
from vae_plugin.training.trained_part import merge_lora, trained_parameters


def train(options: FinetuneOptions, perceptual: torch.nn.Module | None = None) -> dict[str, float] | None:
    """One training run, from the options to the folder `options.output_dir`.

    Args:
        options: of the run.
        perceptual: a perceptual distance (x, y) -> (B,) in place of the one that `--perceptual_loss` names.

    Returns:
        The content of metrics.json (on the main process), or None if the run was interrupted and can be continued.

    Raises:
        UserError: if the options cannot work.
        TrainingStopped: if the loss or the gradient is no longer finite.
    """
    output_dir = Path(options.output_dir)
    make_folder(output_dir)
    accelerator = make_accelerator(options)
    publisher = Publisher(options) if options.push_to_hub and accelerator.is_main_process else None
    set_seed(options.seed)

    # The model, its data, and what it is trained on.
    teacher = load_teacher(options)
    model = make_model(options, teacher)
    train_set, validation_set = load_data(options, model.config.in_channels)
    global_batch = options.train_batch_size * accelerator.num_processes
    images_per_step = global_batch * options.gradient_accumulation_steps
    train_size = None if options.streaming else len(train_set)
    if train_size is not None and train_size < images_per_step:
        raise UserError(f"{train_size} training images do not fill one step of {images_per_step}: make it smaller.")
    total_steps = options.max_train_steps or options.num_train_epochs * (train_size // images_per_step)

    loss_module, discriminator = make_losses(options, model, teacher, perceptual)
    select_trained(options, model)
    noise_shape, reconstruct = loss_module.noise_shape, loss_module.reconstruct
    loss_module.place_judges(accelerator.device)

    # What changes the weights. The weights and the optimiser's moments are float32 in every precision.
    modules = [loss_module] if discriminator is None else [loss_module, discriminator]
    rates = [options.learning_rate, options.disc_learning_rate or options.learning_rate][: len(modules)]
    optimizers = [
        make_optimizer(options, trained_parameters([module]), rate, accelerator.device)
        for module, rate in zip(modules, rates, strict=True)
    ]
    # Not prepared by accelerate, which would advance them once for every process.
    schedulers = [
        get_scheduler(
            options.lr_scheduler,
            optimizer,
            num_warmup_steps=options.lr_warmup_steps,
            num_training_steps=max(1, total_steps - first_step),
        )
        for optimizer, first_step in zip(optimizers, (0, options.disc_start), strict=False)
    ]
    ema = EMAModel(model.parameters(), decay=options.ema_max_decay) if options.use_ema else None
    prepared = accelerator.prepare(*modules, *optimizers)
    modules, optimizers = prepared[: len(modules)], prepared[len(modules) :]
    accelerator.register_for_checkpointing(*schedulers)
    if ema is not None:
        ema.to(accelerator.device)
        accelerator.register_for_checkpointing(ema)

    state = resume(accelerator, options, output_dir)
    if state.step > total_steps:
        raise UserError(f"the checkpoint is at step {state.step}, after the {total_steps} asked for: ask for more.")
    for optimizer, scheduler, rate in zip(optimizers, schedulers, rates, strict=True):
        use_rates_of(options, optimizer, scheduler, rate)
    saved_step = state.step
    curves = CurveLog(output_dir / "logs" / "train.jsonl", state.step) if accelerator.is_main_process else None
    size = "streamed" if train_size is None else f"{train_size:,}"
    accelerator.print(
        f"Training on {size} images, {global_batch} a step x {options.gradient_accumulation_steps}, "
        f"steps {state.step:,} to {total_steps:,}, {accelerator.num_processes} x {accelerator.device.type}."
    )
    unreadable: set[str] = set()
    step_terms: list[dict[str, float]] = []  # of the batches of one optimiser step

    def measure(images: Iterator[torch.Tensor], per_image: dict[str, list[float]] | None = None) -> dict[str, float]:
        return evaluate(
            model, images, seed=options.seed, reconstruct=reconstruct, compare=loss_module.compare, per_image=per_image
        )

    def record(pictures: dict[str, str] | None = None, seconds: float | None = None) -> RunRecord:
        return run_record(options, accelerator, train_images=train_size, pictures=pictures, seconds=seconds)

    base_file = output_dir / "logs" / "base.json"
    if accelerator.is_main_process and state.step == 0:
        base_file.unlink(missing_ok=True)
        if options.pretrained_model_name_or_path is not None and options.in_channels is None:
            measure_base(
                lambda per_image: measure(image_batches(validation_set, options.train_batch_size), per_image), base_file
            )

    started, first_image, evaluation_seconds = time.perf_counter(), state.images, 0.0
    progress = tqdm(total=total_steps, initial=state.step, unit="step", disable=not accelerator.is_main_process)

    with InterruptRequest() as interrupt:
        while state.step < total_steps:
            for batch in epoch_batches(train_set, options, state, accelerator.process_index, accelerator.num_processes):
                unreadable.update(batch["unreadable"])
                with accelerator.accumulate(*modules):
                    x = batch["pixel_values"].to(accelerator.device, non_blocking=True)
                    if options.channels_last:
                        x = x.contiguous(memory_format=torch.channels_last)
                    first = state.images + accelerator.process_index * options.train_batch_size
                    numbers = batch.get("images", range(first, first + len(x)))
                    noise = image_noise(options.seed, numbers, noise_shape(*x[:, 0].shape)).to(x.device)
                    terms = modules[0](x, noise, state.step)
                    reconstruction = terms.pop("reconstruction", None)
                    means = change_weights(accelerator, options, output_dir, state, terms, modules[0], optimizers[0])
                    judged = None
                    if discriminator is not None and state.step >= options.disc_start:
                        # The same batch, on what the autoencoder has just made of it; no gradient leads back to it.
                        judged = modules[1](x, reconstruction)
                        means = {
                            **change_weights(
                                accelerator, options, output_dir, state, judged, modules[1], optimizers[1]
                            ),
                            **means,
                        }
                    if accelerator.sync_gradients:
                        for scheduler in schedulers[: 1 if judged is None else 2]:
                            scheduler.step()
                    step_terms.append(means)
                state.images += global_batch
                state.images_in_epoch += global_batch
                state.stream |= {str(lane): list(place) for lane, place in batch.get("positions", {}).items()}
                if not accelerator.sync_gradients:
                    continue

                state.step += 1
                if ema is not None:
                    ema.step(model.parameters())
                means = {name: sum(t[name] for t in step_terms) / len(step_terms) for name in step_terms[0]}
                step_terms.clear()
                psnr = 10 * math.log10(4 / max(means.pop("mse"), 1e-10))
                values = {**means, "psnr": psnr, "learning_rate": schedulers[0].get_last_lr()[0]}
                accelerator.log(values, step=state.step)
                if curves is not None:
                    curves.log(state.step - 1, values)
                seconds = time.perf_counter() - started - evaluation_seconds
                progress.update()
                shown = {"loss": f"{means['loss']:.4f}", "psnr": f"{psnr:.1f}"}
                if "elbo_nats" in means:
                    shown["elbo"] = f"{means['elbo_nats']:.1f}"
                progress.set_postfix(shown, img_s=f"{(state.images - first_image) / seconds:.3g}")

                if options.validation_steps and state.step % options.validation_steps == 0:
                    before = time.perf_counter()
                    if accelerator.is_main_process:
                        with averaged_weights(model, ema):
                            metrics = measure(image_batches(validation_set, options.train_batch_size))
                            paths = save_pictures(
                                model, validation_set, output_dir, f"step-{state.step:06d}-", reconstruct
                            )
                            if state.best_psnr is None or metrics["psnr"] > state.best_psnr:
                                state.best_psnr = metrics["psnr"]
                                save_best(model, {**metrics, "steps": state.step}, output_dir)
                        accelerator.log({f"validation/{k}": v for k, v in metrics.items()}, step=state.step)
                        pictures = {Path(path).stem.split("-", 2)[2]: output_dir / path for path in paths.values()}
                        log_pictures(accelerator, pictures, state.step)
                    accelerator.wait_for_everyone()
                    evaluation_seconds += time.perf_counter() - before
                if state.step % options.checkpointing_steps == 0:
                    save(accelerator, options, output_dir, state)
                    saved_step = state.step
                    if publisher is not None and state.step < total_steps:
                        with averaged_weights(model, ema):
                            publisher.checkpoint(model, state.step, record)
                if agreed(accelerator, interrupt.requested):
                    if saved_step != state.step:
                        save(accelerator, options, output_dir, state)
                    progress.close()
                    accelerator.print(
                        f"Interrupted at step {state.step:,}: saved in {output_dir / 'checkpoints'}; "
                        "continue with --resume_from_checkpoint latest."
                    )
                    accelerator.end_training()
                    if publisher is not None:
                        publisher.interrupted()
                    return None
                if state.step == total_steps:
                    break
            else:
                state.epoch += 1
                state.images_in_epoch = 0

    seconds = time.perf_counter() - started - evaluation_seconds
    progress.close()
    if total_steps > saved_step:
        save(accelerator, options, output_dir, state)

    # The result: averaged weights where there are any, latents of mean 0 and variance 1 unless they are to stay as they
    # were, measured on held-out images.
    metrics = None
    if accelerator.is_main_process:
        curves.close()
        if ema is not None:
            ema.copy_to(model.parameters())
        merge_lora(model, output_dir / "lora")
        model.eval()

        def statistics_images() -> Iterator[torch.Tensor]:
            return image_batches(train_set, options.train_batch_size, limit=2048)

        if not options.keeps_latents():
            normalize_latents(model, statistics_images(), seed=options.seed)
        if isinstance(model, OURS):
            fit_noise_scale(model, statistics_images(), seed=options.seed)
        per_image: dict[str, list[float]] = {}
        metrics = measure(image_batches(validation_set, options.train_batch_size, unreadable), per_image)
        metrics |= compare_with_base(per_image["psnr"], base_file)
        if not isinstance(model, OURS):
            metrics |= measured_latents(model, statistics_images(), seed=options.seed)
        metrics["steps"] = state.step
        if state.images > first_image:
            metrics["images_per_second"] = (state.images - first_image) / seconds
        accelerator.log({f"final/{k}": v for k, v in metrics.items()}, step=state.step)
        save_result(
            model, metrics, per_image["psnr"], validation_set, options, partial(record, seconds=seconds), reconstruct
        )
        report_unreadable(unreadable, train_set)
        elbo = f", ELBO {metrics['elbo_nats']:.1f} nats" if "elbo_nats" in metrics else ""
        print(f"PSNR {metrics['psnr']:.2f} dB{elbo}. The result is in {output_dir}/")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    if publisher is not None:
        publisher.result()
    return metrics


def make_accelerator(options: FinetuneOptions) -> Accelerator:
    """The process group, device and precision that `accelerate launch` or the options say."""
    try:
        accelerator = Accelerator(
            mixed_precision=options.mixed_precision,
            log_with=options.report_to,
            project_dir=options.output_dir,
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                num_steps=options.gradient_accumulation_steps, sync_with_dataloader=False
            ),
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
    except (ValueError, ImportError) as error:
        raise UserError(f"accelerate refuses these settings: {error}") from error
    prepare_sharding(accelerator, options)
    if options.report_to is not None:
        values = {k: v for k, v in to_dict(options).items() if isinstance(v, (int, float, str, bool))}
        accelerator.init_trackers("logs", config=values)
    return accelerator


def resume(accelerator: Accelerator, options: FinetuneOptions, output_dir: Path) -> TrainingState:
    """The state to go on from: that of `--resume_from_checkpoint`, or the beginning."""
    if options.resume_from_checkpoint is None:
        existing = list_checkpoints(output_dir)
        if existing:
            raise UserError(
                f"{output_dir} has checkpoints up to {existing[-1].name}: continue with --resume_from_checkpoint "
                "latest, or give another --output_dir."
            )
        return TrainingState()
    checkpoint = find_checkpoint(output_dir, options.resume_from_checkpoint)
    if checkpoint is None:
        accelerator.print(f"No checkpoint in {output_dir / 'checkpoints'} yet: starting from the beginning.")
        return TrainingState()
    state, then = read_checkpoint(checkpoint)
    now = to_dict(options)
    changed = {name: then[name] for name in now if name in then and now[name] != then[name]}
    for name in changed:
        if name not in FREE_ON_RESUME:
            raise UserError(f"{checkpoint} was made with --{name} {then[name]}: continue with that, not {now[name]}.")
    accelerator.load_state(str(checkpoint))
    accelerator.print(f"Continuing from {checkpoint}.")
    for name in changed.keys() - {"output_dir", "resume_from_checkpoint"}:
        accelerator.print(f"  --{name} was {then[name]} and is {now[name]} from here on.")
    return state


def save(accelerator: Accelerator, options: FinetuneOptions, output_dir: Path, state: TrainingState) -> Path:
    """A checkpoint of this step."""
    if state.stream:  # each process knows the lanes that it reads
        for positions in gather_object([state.stream]):
            state.stream.update({lane: max(place, state.stream.get(lane, place)) for lane, place in positions.items()})
    try:
        return save_checkpoint(accelerator, output_dir, state, to_dict(options), options.checkpoints_total_limit)
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk, in the words of three libraries
        stop(
            output_dir,
            state,
            f"the checkpoint cannot be written ({str(error).splitlines()[0]})",
            "Make room on the disk",
        )


def run(argv: Sequence[str] | None, prog: str) -> None:
    """Parse the options and train."""
    train(parse(FinetuneOptions, argv, prog=prog, description="Train an autoencoder for diffusers pipelines."))


if __name__ == "__main__":
    start_missing_processes("vae_plugin.finetune", sys.argv[1:])
    sys.exit(exit_status(lambda: run(None, "finetune.py")))
