"""What a launcher was asked for is what runs, or it is refused in one sentence."""

import json
import os
from types import SimpleNamespace

import psutil
import pytest
import torch
from accelerate.utils import DistributedType

from support.runs import options
from vae_plugin import finetune
from vae_plugin.errors import UserError
from vae_plugin.options import given_in
from vae_plugin.training import launch
from vae_plugin.training.accelerator import make_accelerator
from vae_plugin.training.sharding import prepare_sharding


class Replaced(Exception):
    """Instead of the end of this process."""


@pytest.fixture
def parent(monkeypatch, tmp_path):
    """A command that this process takes for its parent's, on a machine without a GPU, started by nobody else."""
    for name in (*launch.WORLD_SIZE, "ACCELERATE_USE_CPU", launch.ACCUMULATION):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch, "has_accelerator", lambda: False)
    monkeypatch.setattr(launch, "default_config_file", str(tmp_path / "nothing.yaml"))
    monkeypatch.setattr(launch, "set_parent_death_signal", lambda number: None)

    def replace(path, words):
        raise Replaced(" ".join(words[1:]))

    monkeypatch.setattr(os, "execv", replace)

    def pretend(*command):
        monkeypatch.setattr(psutil, "Process", lambda pid: SimpleNamespace(cmdline=lambda: list(command)))

    return pretend


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["/venv/bin/python", "/venv/bin/accelerate", "launch", "--cpu", "x.py"], ["--cpu", "x.py"]),
        (["/venv/bin/accelerate", "launch", "x.py"], ["x.py"]),
        (["python", "-m", "accelerate.commands.launch", "x.py"], ["x.py"]),
        (["python", "-X", "dev", "-m", "accelerate.commands.accelerate_cli", "launch", "x.py"], ["x.py"]),
        (["python", "/venv/bin/accelerate-launch", "x.py"], ["x.py"]),
        (["python", "/venv/lib/accelerate/commands/launch.py", "x.py"], ["x.py"]),
        (["bash"], None),
        (["python", "-m", "torch.distributed.run", "x.py", "--output_dir", "accelerate"], None),
        (["python", "/home/me/accelerate/train.py", "launch"], None),
        ([], None),
    ],
)
def test_the_arguments_of_accelerate_launch(command, arguments):
    assert launch.launch_arguments(command) == arguments


@pytest.mark.parametrize(
    ("asked", "started"),
    [
        (["--cpu", "--num_processes", "3"], "--standalone --nproc_per_node=3"),
        (["--num_processes=2"], "--standalone --nproc_per_node=2"),  # whoever has no GPU trains on CPUs
        (
            [
                "--num_processes=4",
                "--num_machines=2",
                "--machine_rank=1",
                "--main_process_ip=a",
                "--main_process_port=5",
            ],
            "--nnodes=2 --node_rank=1 --master_addr=a --master_port=5 --nproc_per_node=2",
        ),
    ],
)
def test_processes_that_accelerate_does_not_start_are_started(parent, asked, started):
    parent("python", "accelerate", "launch", *asked, "x.py", "--seed", "3")
    with pytest.raises(Replaced) as replaced:
        launch.start_missing_processes("vae_plugin.finetune", ["--seed", "3"])
    assert str(replaced.value) == f"-m torch.distributed.run {started} -m vae_plugin.finetune --seed 3"


def test_the_configuration_of_accelerate_counts_as_its_command_line(parent, tmp_path, monkeypatch):
    config = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "NO",
        "mixed_precision": "no",
        "use_cpu": True,
    }
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_processes": 2, "num_machines": 1}))
    parent("accelerate", "launch", "--config_file", str(tmp_path / "config.json"), "x.py")
    with pytest.raises(Replaced, match="--nproc_per_node=2"):
        launch.start_missing_processes("m", [])
    monkeypatch.setattr(launch, "default_config_file", str(tmp_path / "config.json"))
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(tmp_path / "config.json"))
    parent("accelerate", "launch", "x.py")
    assert launch.read_launch().num_processes == 2
    parent("accelerate", "launch", "--cpu", "x.py")  # for which accelerate does not read it either
    assert launch.read_launch().num_processes is None


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["bash"], None),
        (["accelerate", "launch", "x.py"], None),
        (["accelerate", "launch", "--num_processes", "1", "x.py"], None),
        (["accelerate", "launch", "--num_processes", "3", "--num_machines", "2", "x.py"], "give a multiple of 2"),
    ],
)
def test_otherwise_no_process_is_started(parent, command, sentence):
    parent(*command)
    if sentence is None:
        launch.start_missing_processes("m", [])
    else:
        with pytest.raises(UserError, match=sentence):
            launch.start_missing_processes("m", [])


def test_one_gpu_is_not_two(parent, monkeypatch):
    monkeypatch.setattr(launch, "has_accelerator", lambda: True)
    parent("accelerate", "launch", "--num_processes", "2", "x.py")
    with pytest.raises(UserError, match=r"asked for 2 processes and started one: give --multi_gpu .* --cpu .*"):
        launch.start_missing_processes("m", [])
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    with pytest.raises(Replaced):
        launch.start_missing_processes("m", [])


@pytest.mark.parametrize("name", launch.WORLD_SIZE)
def test_processes_that_know_nothing_of_each_other_are_refused(parent, tmp_path, monkeypatch, name):
    """As on a machine with one GPU, or in a container whose WORLD_SIZE is that of its siblings."""
    parent("bash")
    monkeypatch.setenv(name, "2")
    monkeypatch.setattr("vae_plugin.training.accelerator.has_accelerator", lambda: True)
    with pytest.raises(UserError, match="2 processes were asked for, and this one knows of 1"):
        make_accelerator(options(tmp_path))


def test_train_in_python_needs_the_processes_that_accelerate_was_asked_for(parent, tmp_path):
    parent("accelerate", "launch", "--cpu", "--num_processes", "2", "mine.py")
    with pytest.raises(UserError, match="2 processes were asked for, and this one knows of 1"):
        finetune.train(options(tmp_path))


def test_batches_of_a_step_as_the_launcher_says(parent, tmp_path, monkeypatch):
    parent("accelerate", "launch", "--gradient_accumulation_steps", "3", "x.py")
    asked = options(tmp_path)
    assert make_accelerator(asked).gradient_accumulation_steps == 3
    assert asked.optimization.gradient_accumulation_steps == 3
    assert "gradient_accumulation_steps" in given_in(asked)  # so that what is saved repeats the run
    with pytest.raises(UserError, match="--gradient_accumulation_steps is 2, and accelerate launch was given 3"):
        make_accelerator(options(tmp_path, gradient_accumulation_steps=2))
    parent("bash")
    monkeypatch.setenv(launch.ACCUMULATION, "4")
    assert make_accelerator(options(tmp_path)).gradient_accumulation_steps == 4
    monkeypatch.setenv(launch.ACCUMULATION, "auto")
    assert make_accelerator(options(tmp_path)).gradient_accumulation_steps == 1


def test_a_precision_that_the_device_lacks_is_refused(parent, tmp_path, monkeypatch):
    parent("bash")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(UserError, match=r"--mixed_precision fp16 does not exist on this device \(cpu\)"):
        make_accelerator(options(tmp_path, mixed_precision="fp16"))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match=r"--mixed_precision fp16 does not exist"):
        make_accelerator(options(tmp_path))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    asked = options(tmp_path)
    accelerator = make_accelerator(asked)
    with accelerator.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert asked.optimization.mixed_precision == "bf16"


def test_a_second_run_in_one_process_has_a_precision_of_its_own(parent, tmp_path):
    parent("bash")
    for precision, expected in (("bf16", "bf16"), (None, "no"), ("bf16", "bf16"), ("no", "no")):
        assert make_accelerator(options(tmp_path, mixed_precision=precision)).mixed_precision == expected


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, None),
        ({"gradient_clipping": "auto", "train_micro_batch_size_per_gpu": "auto"}, None),
        ({"gradient_accumulation_steps": 1, "train_micro_batch_size_per_gpu": 8}, None),
        ({"gradient_clipping": 0.5}, "--max_grad_norm is 1.0, and DeepSpeed's gradient_clipping is 0.5"),
        ({"train_micro_batch_size_per_gpu": 4}, "--train_batch_size is 8, and DeepSpeed's"),
        ({"gradient_accumulation_steps": 3}, "--gradient_accumulation_steps is 2, and DeepSpeed's"),
    ],
)
def test_what_deepspeed_is_configured_for_is_what_runs(tmp_path, said, sentence):
    config = {"zero_optimization": {"stage": 2}, **said}
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED,
        mixed_precision="no",
        deepspeed_plugin=SimpleNamespace(deepspeed_config=config),
    )
    settings = options(tmp_path, gradient_accumulation_steps=2).optimization
    if sentence is not None:
        with pytest.raises(UserError, match=sentence):
            prepare_sharding(accelerator, settings, has_discriminator=False)
        return
    prepare_sharding(accelerator, settings, has_discriminator=False)
    assert config["gradient_accumulation_steps"] == 2
    assert (config["gradient_clipping"], config["train_micro_batch_size_per_gpu"]) == (1.0, 8)
