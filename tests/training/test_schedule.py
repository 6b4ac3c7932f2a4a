"""Schedules of the learning rate against their closed forms, and the refusal of names that mean another one."""

import math
import re

import pytest
import torch

from support.runs import ROOT, curves, options
from vae_plugin import finetune
from vae_plugin.errors import UserError
from vae_plugin.options import build, parse
from vae_plugin.training.schedule import make_schedule
from vae_plugin.training.settings import FinetuneOptions, OptimizationSettings

PEAK, WARMUP, STEPS = 0.5, 4, 24


def rates(peak=PEAK, **settings):
    """The rate of every step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    schedule = make_schedule(OptimizationSettings(lr_warmup_steps=WARMUP, **settings), optimizer, STEPS)
    found = []
    for _ in range(STEPS):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def expected(fall):
    """A warm-up, and then a fall by the part of the way that is done."""
    return [
        PEAK * step / WARMUP if step < WARMUP else fall((step - WARMUP) / (STEPS - WARMUP)) for step in range(STEPS)
    ]


def cosine(cycles):
    return lambda done: PEAK * (1 + math.cos(math.pi * (cycles * done % 1))) / 2


@pytest.mark.parametrize("cycles", [1, 2, 5])
def test_cosine_with_restarts(cycles):
    assert rates(lr_scheduler="cosine_with_restarts", lr_num_cycles=cycles) == pytest.approx(expected(cosine(cycles)))


@pytest.mark.parametrize(("power", "end"), [(1.0, 0.0), (2.0, 0.01), (0.5, 1e-7)])
def test_polynomial(power, end):
    fall = expected(lambda done: (PEAK - end) * (1 - done) ** power + end)
    assert rates(lr_scheduler="polynomial", lr_power=power, lr_end=end) == pytest.approx(fall)


def test_a_run_of_0_1_keeps_its_rates():
    """It had no such parameters: one cycle, which is cosine, and power 1 down to 1e-7."""
    assert rates(lr_scheduler="cosine_with_restarts") == rates(lr_scheduler="cosine")
    assert rates(lr_scheduler="polynomial") == pytest.approx(rates(lr_scheduler="linear"), abs=1e-7)
    assert rates(lr_scheduler="polynomial") != rates(lr_scheduler="linear")


@pytest.mark.parametrize("end", [PEAK, 1.0])
def test_a_polynomial_falls(end):
    with pytest.raises(UserError, match=f"--lr_end is {end}: it must be below the learning rate, which is 0.5"):
        rates(lr_scheduler="polynomial", lr_end=end)
    with pytest.raises(UserError, match="below the learning rate, which is 0"):
        rates(0.0, lr_scheduler="polynomial")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"lr_scheduler": "cosine_with_restarts"}, "with one cycle is cosine: give --lr_num_cycles"),
        ({"lr_scheduler": "cosine_with_restarts", "lr_num_cycles": 1}, "with one cycle is cosine"),
        ({"lr_scheduler": "polynomial"}, "of power 1 is linear: give --lr_power or --lr_end"),
        ({"lr_scheduler": "cosine", "lr_num_cycles": 2}, "--lr_num_cycles applies only to --lr_scheduler cosine_with"),
        ({"lr_scheduler": "linear", "lr_power": 2.0}, "--lr_power applies only to --lr_scheduler polynomial"),
        ({"lr_end": 0.0}, "--lr_end applies only to --lr_scheduler polynomial"),
        ({"lr_scheduler": "constant", "lr_warmup_steps": 3}, "--lr_warmup_steps has no effect with --lr_scheduler"),
        ({"lr_scheduler": "cosine_with_restarts", "lr_num_cycles": 3}, None),
        ({"lr_scheduler": "polynomial", "lr_end": 0.0}, None),
        ({"lr_scheduler": "polynomial", "resume_from_checkpoint": "latest"}, None),
        ({"lr_scheduler": "cosine_with_restarts", "resume_from_checkpoint": "latest"}, None),
    ],
)
def test_a_name_that_would_mean_another_schedule_is_refused(given, sentence):
    if sentence is None:
        build(FinetuneOptions, given)
    else:
        with pytest.raises(UserError, match=sentence):
            build(FinetuneOptions, given)


def test_a_file_of_0_1_still_names_them(tmp_path):
    old = (ROOT / "tests/fixtures/release-0.1/vae/training_options.yaml").read_text()
    file = tmp_path / "options.yaml"
    file.write_text(re.sub("lr_scheduler: .*", "lr_scheduler: polynomial", old))
    settings = parse(FinetuneOptions, ["--config", str(file)], prog="p").optimization
    assert (settings.lr_scheduler, settings.lr_power, settings.lr_end) == ("polynomial", 1.0, 1e-7)
    file.write_text("lr_scheduler: polynomial")
    with pytest.raises(UserError, match="of power 1 is linear"):
        parse(FinetuneOptions, ["--config", str(file)], prog="p")


def test_the_curves_have_the_norm_of_the_gradient(tmp_path):
    finetune.train(
        options(tmp_path, max_train_steps=2, reconstruction_loss="l2", disc_start=1, disc_layers=1, disc_channels=4)
    )
    first, second = curves(tmp_path)
    assert first["gradient_norm"] > 0
    assert second["gradient_norm"] > 0
    assert "disc_gradient_norm" not in first
    assert second["disc_gradient_norm"] > 0
