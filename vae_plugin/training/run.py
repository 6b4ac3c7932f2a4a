"""Building a run: the one place that sees all options, and hands each part its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from ..autoencoders import Adapter
from ..datasets.trained_on import save_record
from ..errors import TrainingStopped, UserError
from ..hub import check_card
from ..models.distributed import wait_for_processes
from ..notices import say_once, show
from ..options import given_in, keep_what_was, to_dict
from .average import WeightAverage
from .buckets import image_sizes
from .checkpoints import Content, stopped
from .data import TrainingData, default_channels
from .decoder import decoder_facts
from .evaluation import Evaluator
from .failures import DataFailed, StepFailed
from .hooks import CheckpointHook, Hook, LogHook, PublishHook, Step, ValidationHook
from .hooks.publish import Publisher
from .latent_space import LatentSpace
from .losses import TrainingLoss
from .main_process import on_main
from .memory import check_batch_fits
from .optimizers import ADAMW
from .own_data import NOTHING, Given, open_own
from .parts import RunParts
from .pictures import SamplePictures
from .progress import Progress, Stopwatch
from .resuming import find_beginning
from .run_record import Recorder
from .settings import FinetuneOptions, OptimizationSettings, OutputSettings
from .settings.data import CIRCLES
from .settings.opening import checked_range
from .setup_model import (
    check_part,
    check_teacher,
    default_learning_rate,
    give_padding_mode,
    load_teacher,
    make_losses,
    make_model,
    select_trained,
    settled_resolution,
)
from .state import TrainingState
from .statistics import check_spread
from .trackers import start_tracker
from .trainee import Trainee
from .unreached import unreached


@dataclass
class Run:
    """The parts of a run, ready for its first step.

    Attributes:
        options: of the run, with the data set, resolution and learning rate that were settled.
        accelerator: the processes, the device and the precision.
        state: how far the run has come.
        loss: of the autoencoder.
        data: the images.
        base: of the model whose latents a new decoder is trained for; None of any other run.
        autoencoder: the trainee that `loss` is.
        discriminator: the trainee beside it, if there is one.
        average: of the autoencoder's weights.
        evaluator: measures the autoencoder.
        pictures: draws what it does.
        recorder: collects what its card tells.
        publisher: pushes to the Hub, on the main process where that is asked for.
        log: the curves and the progress.
        checkpoints: saves the state.
        hooks: what happens after every step, in order: log, validation, checkpoint, publishing.
    """

    options: FinetuneOptions
    accelerator: Accelerator
    state: TrainingState
    loss: TrainingLoss
    data: TrainingData
    base: Adapter | None
    autoencoder: Trainee
    discriminator: Trainee | None
    average: WeightAverage
    evaluator: Evaluator
    pictures: SamplePictures
    recorder: Recorder
    publisher: Publisher | None
    log: LogHook
    checkpoints: CheckpointHook
    hooks: list[Hook] = field(default_factory=list)

    @property
    def output_dir(self) -> Path:
        """The folder of the result."""
        return Path(self.options.output.output_dir)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run."""
        return self.data.total_steps

    @property
    def batches_per_step(self) -> int:
        """Batches of one optimiser step."""
        return self.options.optimization.gradient_accumulation_steps

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The modules that are trained."""
        return [self.autoencoder.module, *([] if self.discriminator is None else [self.discriminator.module])]

    @property
    def base_file(self) -> Path:
        """Where the measures of the model before its first step are kept."""
        return self.output_dir / "logs" / "base.json"

    def after_step(self, terms: dict[str, float]) -> None:
        """Count the step, and let everything beside training act."""
        self.state.step += 1
        self.average.update()
        step = Step(self.state.step, self.state.step == self.total_steps, terms)
        for hook in self.hooks:
            hook.after_step(step)
        try:
            self.data.check_readable()
        except StepFailed:
            self.checkpoints.save()
            raise

    def interrupted(self) -> None:
        """Save, say how to continue, and leave."""
        self.checkpoints.save()
        self.log.close()
        self.accelerator.print(
            f"Interrupted at step {self.state.step:,}: saved in {self.output_dir / 'checkpoints'}; continue with "
            "--resume_from_checkpoint latest."
        )
        if self.publisher is not None:
            self.publisher.interrupted()
        wait_for_processes()  # when one process ends, their launcher ends the others
        self.accelerator.end_training()

    def stopped(self, failure: StepFailed) -> TrainingStopped:
        """The error that ends the run, after a checkpoint if it is the data that failed, and between two steps."""
        between_steps = self.state.images % self.data.images_per_step == 0
        if isinstance(failure, DataFailed) and between_steps and self.accelerator.num_processes == 1:
            with suppress(StepFailed):  # the last checkpoint is named all the same
                self.checkpoints.save()
        return stopped(failure, self.output_dir, self.state.step)


def build_run(options: FinetuneOptions, accelerator: Accelerator, given: Given = NOTHING) -> Run:
    """Make the parts of a run, and continue from a checkpoint where that is asked for.

    Args:
        options: of the run; the data set, resolution and learning rate are settled in them.
        accelerator: of the run, which has its output folder.
        given: data sets and networks from Python, instead of what options name.

    Raises:
        UserError: if the options cannot work.
    """
    output_dir = Path(options.output.output_dir)
    own = open_own(given, options)
    start_tracker(accelerator, options)
    main, seed = accelerator.is_main_process, options.optimization.seed
    on_main(accelerator, lambda: check_card(output_dir))
    publishers: list[Publisher] = []  # one, on the main process
    if options.hub.push_to_hub:
        on_main(accelerator, lambda: publishers.append(Publisher(options.hub, output_dir)))
    publisher = publishers[0] if publishers else None
    beginning = find_beginning(accelerator, output_dir, options.output.resume_from_checkpoint)
    state = beginning.state
    if beginning.content is not None:
        keep_what_was(beginning.content.options, options)
    set_seed(seed)

    teacher = load_teacher(options.model)
    adapter = make_model(
        options.model,
        options.codebook,
        resolution=options.data.resolution,
        default_channels=default_channels(options.data) if own is None else own.channels,
        teacher=teacher,
    )
    options.check_model(adapter, options.model.source)
    given.check_losses(options, adapter)
    if own is not None:
        own.check_model(adapter)
    check_part(options.model, adapter)
    give_padding_mode(options.model, adapter, options.latents_stay)
    base = teacher if options.model.new_decoder else None
    settle(options, adapter, base)
    resolution, rate = options.data.resolution, options.optimization.learning_rate
    assert resolution is not None  # both are settled
    assert rate is not None
    check_teacher(options.model, adapter, teacher, resolution)
    sizes = image_sizes(adapter, options.data.crop, resolution)
    if (
        options.objective.tc_weight is not None
        and options.optimization.train_batch_size * accelerator.num_processes < 2
    ):
        raise UserError(  # of one image the estimate is a constant, log of the data set's size
            "--tc_weight has no effect on batches of one image, from which no total correlation is estimated: give "
            "--train_batch_size 2 or more, of which more than 100 are usual."
        )
    check_batch_fits((options.optimization.train_batch_size, adapter.in_channels, resolution, resolution))
    if options.model.gradient_checkpointing:
        adapter.enable_gradient_checkpointing()
    data = TrainingData(
        options.data,
        options.optimization,
        adapter.in_channels,
        accelerator,
        beginning.data,
        adapter.spatial_compression_ratio,
        own,
    )
    if data.changed:
        state.begin_new_pass(data.lanes)
        accelerator.print("The data changed: what was held out stays held out, and a new pass over the rest begins.")
    elif data.regrouped and state.images_in_epoch:
        state.begin_new_pass(data.lanes)
        accelerator.print(f"Batches of one size have {data.global_batch} images now: a new pass over the data begins.")
    if not options.keeps_latents:
        check_spread(adapter, data.size, resolution)
    loss, discriminator_loss = make_losses(
        adapter,
        options.loss,
        options.objective,
        pixels=options.pixel_losses(adapter),
        sizes=sizes,
        dataset_size=data.size,
        teacher=teacher if base is None else None,
        perceptual=given.perceptual,
        discriminator=given.discriminator,
    )
    learns_likelihood = "elbo" in options.pixel_losses(adapter)
    select_trained(adapter, options.model, options.optimization, learns_likelihood)
    loss.place_frozen(accelerator.device)
    if loss.has_alpha and "fourth_channel" not in given_in(options):
        accelerator.print(
            "The fourth channel is taken for alpha: losses see the images over random backgrounds. If it is a band "
            "like the others, give --fourth_channel band."
        )

    autoencoder = Trainee(accelerator, loss, options.optimization, learning_rate=rate, total_steps=data.total_steps)
    discriminator = None
    if discriminator_loss is not None:
        discriminator = Trainee(
            accelerator,
            discriminator_loss,
            options.optimization,
            learning_rate=rate if options.loss.disc_learning_rate is None else options.loss.disc_learning_rate,
            total_steps=data.total_steps,
            first_step=options.loss.disc_start or 0,
            prefix="disc_",
        )
    trainees = [autoencoder, *([] if discriminator is None else [discriminator])]
    average = WeightAverage(adapter.model, options.optimization)
    average.to(accelerator.device)
    parts = RunParts(accelerator, trainees, average)

    beginning.restore(parts, options)
    if state.step > data.total_steps:
        raise UserError(
            f"the checkpoint is at step {state.step}, after the {data.total_steps} steps asked for: give more."
        )
    for trainee in trainees:
        trainee.restore_settings()

    if main:
        save_record(data.record, output_dir)
        for note in (*data.notes, *unreached(options, data.total_steps)):
            show(note)
    size = "streamed" if data.size is None else f"{data.size:,}"
    accelerator.print(
        f"Training on {size} images, {data.global_batch} a step x {options.optimization.gradient_accumulation_steps}, "
        f"steps {state.step:,} to {data.total_steps:,}, {accelerator.num_processes} x {accelerator.device.type}."
    )
    stopwatch = Stopwatch(state.seconds)
    evaluator = Evaluator(loss, data, seed)
    state.best.settle(options.output.best_metric, evaluator.measures)
    check_evaluations(options.output, data.total_steps)
    pictures = SamplePictures(loss, data.validation, output_dir)
    values = to_dict(options)
    named = {name: value for name, value in values.items() if name in given_in(options)}
    latents = None if options.model.base is None else LatentSpace(adapter, options.latents_stay)
    recorder = Recorder(
        options.model,
        options.data,
        options.hub.license,
        named,
        accelerator,
        data.size,
        latents,
        {} if base is None else decoder_facts(adapter, base, accelerator.device),
        [name for name in loss.perceptual_measures if "perceptual" not in loss.perceptual_measures],
    )
    log = LogHook(
        accelerator,
        state,
        output_dir / "logs" / "train.jsonl",
        Progress(data.total_steps, state.step, visible=main),
        stopwatch,
        lambda: autoencoder.current_learning_rate,
    )
    every = options.output.checkpointing_steps
    checkpoints = CheckpointHook(
        parts,
        Content(state, values, data.record.to_dict()),
        output_dir,
        every=every,
        total_limit=options.output.checkpoints_total_limit,
    )
    validation = ValidationHook(
        accelerator, state, evaluator, pictures, average, output_dir, stopwatch, options.output.validation_steps
    )
    publishing = PublishHook(publisher, adapter, average, recorder.record, every)
    if options.hub.push_to_hub:
        tagged = range(every * (state.step // every + 1), data.total_steps, every)
        on_main(accelerator, lambda: publisher.open(adapter, recorder.record(), tagged) if publisher else None)
    return Run(
        options=options,
        accelerator=accelerator,
        state=state,
        loss=loss,
        data=data,
        base=base,
        autoencoder=autoencoder,
        discriminator=discriminator,
        average=average,
        evaluator=evaluator,
        pictures=pictures,
        recorder=recorder,
        publisher=publisher,
        log=log,
        checkpoints=checkpoints,
        hooks=[log, validation, checkpoints, publishing],
    )


def check_evaluations(output: OutputSettings, total_steps: int) -> None:
    """Refuse a best evaluation in a run without any.

    Raises:
        UserError: if it is asked for.
    """
    if output.load_best_model_at_end and total_steps < (output.validation_steps or 0):
        raise UserError(
            f"--validation_steps {output.validation_steps} makes no evaluation in {total_steps} steps, so there is no "
            "best model to load at the end: give fewer, or leave --load_best_model_at_end out."
        )


def settle(options: FinetuneOptions, adapter: Adapter, base: Adapter | None) -> None:
    """Set what was left open of the data, the resolution and the learning rate: a checkpoint holds them."""
    if options.data.circles:
        options.data.dataset_name = CIRCLES
    if not options.data.circles:
        options.data.value_range = options.data.value_range or adapter.value_range
        adapter.record_value_range(checked_range(options.data.value_range))
    options.data.resolution = settled_resolution(options.model, adapter, options.data.resolution, base)
    if options.optimization.learning_rate is None:
        options.optimization.learning_rate = default_learning_rate(options.model)
        say_default_rate(options.optimization)
    options.optimization.settle_optimizer()


def say_default_rate(settings: OptimizationSettings) -> None:
    """Tell that the default of the learning rate is meant for AdamW, where a run has another optimiser."""
    kind, rate = settings.kind, settings.learning_rate
    if kind.name != ADAMW:
        own = kind.arguments.get("lr")
        its = f"; that of {kind.name} itself is {own:g}" if isinstance(own, (int, float)) else ""
        say_once("default rate", f"the learning rate is {rate:g}, the default for AdamW{its}: --learning_rate sets it.")
