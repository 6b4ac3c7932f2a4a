import os

import pytest
import torch
from accelerate.state import AcceleratorState


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite in parallel where pytest-xdist is: by files it is not worth the start of the workers."""
    whole = all(argument.startswith("-") for argument in config.invocation_params.args)
    if whole and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        config.option.numprocesses = os.cpu_count()
        config.option.dist = "loadgroup"


@pytest.fixture(autouse=True)
def fresh_process():
    """What a new process would have: accelerate keeps the precision of the first run of a process."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
