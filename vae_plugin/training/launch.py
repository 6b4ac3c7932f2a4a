"""What `accelerate launch`, torchrun or MPI was asked for, and the processes that `accelerate launch` did not start."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
from accelerate.commands.config import load_config_from_file
from accelerate.commands.config.config_args import default_config_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import is_torch_xla_available

from ..errors import UserError
from .interrupts import set_parent_death_signal

WORLD_SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
ACCELERATE = {"accelerate", "accelerate-launch", "accelerate.commands.launch", "accelerate.commands.accelerate_cli"}


@dataclass(frozen=True)
class Launch:
    """What the command line of `accelerate launch`, and the configuration that it reads, ask for.

    Attributes:
        num_processes: on all machines; None leaves it to accelerate.
        num_machines: of the run.
        machine_rank: number of this machine, from 0.
        main_process_ip: address of machine 0.
        main_process_port: port on machine 0.
        gradient_accumulation_steps: batches of an optimiser step.
    """

    num_processes: int | None = None
    num_machines: int = 1
    machine_rank: int = 0
    main_process_ip: str | None = None
    main_process_port: int | None = None
    gradient_accumulation_steps: int | None = None


def start_missing_processes(module: str, arguments: Sequence[str]) -> None:
    """Under `accelerate launch --num_processes N` on CPUs, start the N processes; otherwise do nothing.

    Without MPI that launcher starts one process on each machine whatever N is, and a run that was meant for N would
    silently train on one N-th of the batch. This process is then replaced by torch's launcher of as many processes as
    this machine's share is, which talk through gloo.

    Args:
        module: to run in each of them, as with `python -m`.
        arguments: its command line.

    Raises:
        UserError: if they cannot be started.
    """
    launch = read_launch()
    if launch is None or (launch.num_processes or 1) <= world_size() or world_size() > 1:
        return
    processes, machines = launch.num_processes or 1, launch.num_machines
    if has_accelerator() and not _cpu_asked_for():
        raise UserError(
            f"accelerate launch was asked for {processes} processes and started one: give --multi_gpu where there are "
            "as many GPUs, --cpu to train without them, or --num_processes 1."
        )
    if processes % machines:
        raise UserError(
            f"accelerate launch was asked for {processes} processes on {machines} machines: give a multiple of "
            f"{machines}, for as many on each."
        )
    where = ["--standalone"]
    if machines > 1:
        where = [f"--nnodes={machines}", f"--node_rank={launch.machine_rank}"]
        where += [f"--master_addr={launch.main_process_ip}", f"--master_port={launch.main_process_port}"]
    if launch.gradient_accumulation_steps is not None:
        os.environ[ACCUMULATION] = str(launch.gradient_accumulation_steps)  # the command line is no longer the parent's
    set_parent_death_signal(signal.SIGTERM)  # survives the replacement
    launcher = ["-m", "torch.distributed.run", *where, f"--nproc_per_node={processes // machines}", "-m", module]
    os.execv(sys.executable, [sys.executable, *launcher, *arguments])


def check_processes(number: int) -> None:
    """Refuse a run of fewer processes than were asked for: each would train by itself, all in one output folder.

    Args:
        number: of the processes that know of each other.

    Raises:
        UserError: if there are fewer.
    """
    launch = read_launch()
    asked = max(world_size(), (launch and launch.num_processes) or 1)
    if number < asked:
        raise UserError(
            f"{asked} processes were asked for, and this one knows of {number}: start the run by `accelerate launch "
            f"--num_processes {asked}` or `torchrun --nproc_per_node {asked}`, with a GPU for each or on CPUs alone."
        )


def accumulation_steps() -> int | None:
    """The gradient_accumulation_steps of the launcher, if it was given any."""
    launch = read_launch()
    if launch is not None and launch.gradient_accumulation_steps is not None:
        return launch.gradient_accumulation_steps
    said = os.environ.get(ACCUMULATION, "")
    return int(said) if said.isdecimal() else None  # DeepSpeed's "auto" is the option's


def read_launch() -> Launch | None:
    """What `accelerate launch` was asked for; None if it is not the parent of this process."""
    try:
        words = launch_arguments(psutil.Process(os.getppid()).cmdline())
    except psutil.Error:
        return None
    if words is None:
        return None
    given, _ = launch_command_parser().parse_known_args(words)
    config = None
    if given.config_file is not None or (os.path.isfile(default_config_file) and not given.cpu):
        try:
            config = load_config_from_file(given.config_file)
        except (OSError, ValueError):  # accelerate has read it, so it was changed since
            config = None

    def asked(name: str) -> int | None:
        value = getattr(given, name)
        value = getattr(config, name, None) if value is None else value
        return None if value is None else int(value)

    accumulation = given.gradient_accumulation_steps
    if accumulation is None:
        said = (getattr(config, "deepspeed_config", None) or {}).get("gradient_accumulation_steps")
        accumulation = said if isinstance(said, int) else None
    return Launch(
        asked("num_processes"),
        asked("num_machines") or 1,
        asked("machine_rank") or 0,
        given.main_process_ip or getattr(config, "main_process_ip", None),
        asked("main_process_port"),
        accumulation,
    )


def launch_arguments(command: Sequence[str]) -> list[str] | None:
    """The arguments of `accelerate launch`, however it was started; None for another command."""
    program = 1  # after an interpreter and its options
    while command[program : program + 1] and command[program].startswith("-"):
        program += 2 if command[program] in ("-X", "-W") else 1
    for i, word in [(i, command[i]) for i in (0, program) if i < len(command)]:
        is_file = word.replace(os.sep, "/").endswith("accelerate/commands/launch.py")
        if is_file or os.path.basename(word).removesuffix(".exe") in ACCELERATE:
            rest = list(command[i + 1 :])
            return rest[1:] if rest[:1] == ["launch"] else rest
    return None


def world_size() -> int:
    """The number of processes that a launcher has started on all machines, as it says by the environment."""
    said = (os.environ.get(name, "") for name in WORLD_SIZE)
    return next((max(1, int(number)) for number in said if number.isdecimal()), 1)


def has_accelerator() -> bool:
    """Whether this machine has a GPU or the like."""
    return torch.accelerator.is_available() or is_torch_xla_available()


def _cpu_asked_for() -> bool:
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
