"""What a run is too short for, against its schedules step by step."""

import random

import pytest

from support.runs import options
from vae_plugin import finetune
from vae_plugin.objectives import TrainingObjective
from vae_plugin.options import build
from vae_plugin.training.settings import FinetuneOptions
from vae_plugin.training.unreached import unreached

DATA = {"dataset_name": "circles"}


def notes(steps, **values):
    return list(unreached(build(FinetuneOptions, {**DATA, **values}), steps))


def about(found, name):
    return any(sentence.startswith(f"--{name} ") for sentence in found)


def test_a_schedule_is_told_exactly_if_no_step_of_the_run_is_at_its_end():
    rng = random.Random(0)
    told = 0
    for _ in range(200):
        steps, warmup, target, rate = (rng.randint(1, 6) for _ in range(4))
        scheduler = rng.choice(["constant_with_warmup", "linear", "cosine"])
        found = notes(
            steps, kl_warmup_steps=warmup, capacity=3.0, capacity_steps=target, lr_warmup_steps=rate,
            lr_scheduler=scheduler,
        )  # fmt: skip
        objective = TrainingObjective(warmup_steps=warmup)
        weights = [objective.kl_weight(step) for step in range(steps)]
        assert about(found, "kl_warmup_steps") == (max(weights) < objective.beta)
        assert about(found, "capacity_steps") == (max((step + 1) / target for step in range(steps)) < 1)
        assert about(found, "lr_warmup_steps") == (max(step / rate for step in range(steps)) < 1)
        told += len(found)
    assert told > 50


@pytest.mark.parametrize(
    ("start", "warmup", "told"),
    [
        (7, 0, None),
        (8, 0, "--disc_start 8: the discriminator is not trained, since the run ends after 8 steps."),
        (6, 1, None),
        (6, 2, "--disc_start 6 --disc_warmup_steps 2: the adversarial loss is not added, since the run ends after"),
    ],
)
def test_a_discriminator_that_never_acts_is_told(start, warmup, told):
    values = {"lr_scheduler": "constant", "reconstruction_loss": "l1"}
    found = notes(8, disc_start=start, disc_warmup_steps=warmup, **values)
    assert [sentence[: len(told or "")] for sentence in found] == ([] if told is None else [told])


def test_evaluations_that_do_not_come_are_told():
    assert notes(8, lr_scheduler="constant", validation_steps=8) == []
    [note] = notes(8, lr_scheduler="constant", validation_steps=9)
    assert note == "--validation_steps 9: there is no evaluation before the end, after 8 steps."


def test_a_run_tells_it(tmp_path, capsys):
    finetune.train(options(tmp_path, max_train_steps=2, lr_warmup_steps=5))
    assert "--lr_warmup_steps 5: the learning rate does not reach its peak, since the run ends after 2 steps." in (
        capsys.readouterr().out
    )
