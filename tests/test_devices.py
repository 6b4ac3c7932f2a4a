"""Nothing needs float64 where the model lives: some devices have none, Apple's GPUs among them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration

from support import HANGS
from vae_plugin.models.exact import exact, exact_dtype, rounded_to

TESTS = Path(__file__).resolve().parent


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="torch is older than 2.10"
)
def test_training_measuring_exporting_and_the_lab_run_on_a_device_without_float64(tmp_path):
    command = [sys.executable, str(TESTS / "without_float64.py"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, cwd=TESTS)
    parts = [line.split(" ", 2) for line in result.stdout.splitlines() if line.startswith(("passed", "failed"))]
    assert len(parts) == 8, result.stdout + result.stderr
    failed = [" ".join(part[1:]).replace("\\n", "\n") for part in parts if part[0] == "failed"]
    assert not failed, "\n".join(failed)


def test_exact_values_keep_every_bit_and_come_back_in_the_precision_of_their_tensor():
    x = torch.tensor([1 / 3, 1e-30, -7.0], requires_grad=True)
    values = exact(x)
    assert (values.dtype, values.device.type, values.requires_grad) == (torch.float64, "cpu", False)
    assert torch.equal(rounded_to(x.half(), values), x.detach().half())
    assert torch.equal(rounded_to(x, values), x.detach())
    assert (exact_dtype(torch.device("cpu")), exact_dtype(torch.device("meta"))) == (torch.float64, torch.float32)
