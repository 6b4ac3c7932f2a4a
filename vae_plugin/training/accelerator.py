"""The processes, the device and the precision of a run: what was asked for is what runs, or it is refused."""

from __future__ import annotations

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, GradientAccumulationPlugin

from ..errors import UserError
from ..options import give, given_in
from .launch import accumulation_steps, check_processes, has_accelerator, world_size
from .settings import FinetuneOptions
from .sharding import prepare_sharding
from .trackers import check_tracker

PRECISIONS = ("no", "fp16", "bf16")


def make_accelerator(options: FinetuneOptions) -> Accelerator:
    """The processes, device and precision that a launcher or the options ask for.

    What the launcher decides is settled in the options, so that what is saved of them repeats the run.

    Raises:
        UserError: if accelerate does not accept them, or would run something else than was asked for.
    """
    optimization, output = options.optimization, options.output
    check_tracker(output)
    _settle_accumulation(options)
    _forget_ended_runs()
    try:
        accelerator = Accelerator(
            mixed_precision=optimization.mixed_precision,
            # Of several processes without a GPU accelerate makes one run only if it is told that they have none.
            cpu=world_size() > 1 and not has_accelerator(),
            log_with=output.report_to,
            project_dir=output.output_dir,
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                num_steps=optimization.gradient_accumulation_steps, sync_with_dataloader=False
            ),
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
    except (ValueError, ImportError) as error:
        raise UserError(f"accelerate refuses these settings: {' '.join(str(error).split())}") from error
    check_processes(accelerator.num_processes)
    prepare_sharding(accelerator, optimization, options.loss.disc_start is not None)
    _settle_precision(accelerator, options)
    return accelerator


def _settle_accumulation(options: FinetuneOptions) -> None:
    """Follow the launcher's number of batches for a step.

    Raises:
        UserError: if another one was given beside it.
    """
    said, steps = accumulation_steps(), options.optimization.gradient_accumulation_steps
    if said in (None, 1, steps):  # 1 is what accelerate's own configurations say without being asked
        return
    name = "gradient_accumulation_steps"
    if name in given_in(options):
        raise UserError(f"--{name} is {steps}, and accelerate launch was given {said}: give one of them.")
    give(options, name, said)


def _settle_precision(accelerator: Accelerator, options: FinetuneOptions) -> None:
    """Follow the launcher's precision where the options leave it open.

    Raises:
        UserError: if the device would compute in another one.
    """
    precision = accelerator.mixed_precision
    if precision not in PRECISIONS:
        raise UserError(f"mixed precision {precision} is not for autoencoders: give {', '.join(PRECISIONS)}.")
    is_real = accelerator.native_amp or accelerator.distributed_type == DistributedType.DEEPSPEED
    if precision != "no" and not is_real:
        raise UserError(
            f"--mixed_precision {precision} does not exist on this device ({accelerator.device.type}), which would "
            "compute in float32: give bf16 or no."
        )
    if options.optimization.mixed_precision is None and precision != "no":
        give(options, "mixed_precision", precision)


def _forget_ended_runs() -> None:
    """Let a second run in one process have another precision, and processes of its own.

    accelerate keeps the first precision of a process, also where a later run leaves it open.
    """
    if not AcceleratorState._shared_state:
        return
    ended = PartialState().num_processes > 1 and not torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=ended)
