"""One update of the weights, the mean of its terms, and the schedule: against torch by hand."""

import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import GradientState
from accelerate.utils import GradientAccumulationPlugin
from torch import nn

from support.tiny_parts import tiny_parts
from vae_plugin.errors import UserError
from vae_plugin.training.average import WeightAverage
from vae_plugin.training.failures import StepFailed
from vae_plugin.training.settings import OptimizationSettings
from vae_plugin.training.trainee import TermMeans, Trainee, make_optimizer, mean_terms, trained_parameters


def accelerator(steps=1):
    """One that shares nothing with those before it, which accelerate lets share whether gradients are complete."""
    GradientState._reset_state()
    plugin = GradientAccumulationPlugin(num_steps=steps, sync_with_dataloader=False)
    return Accelerator(cpu=True, gradient_accumulation_plugin=plugin)


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def loss_of(module, x):
    return module(x).square().mean()


SETTINGS = OptimizationSettings(
    lr_scheduler="linear", lr_warmup_steps=2, adam_beta1=0.8, adam_beta2=0.9, adam_weight_decay=0.1, adam_epsilon=1e-3,
    max_grad_norm=0.05,
)  # fmt: skip


def test_updates_are_those_of_adamw_with_clipped_gradients_and_a_linear_schedule():
    data = [torch.randn(4, 3, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    trainee = Trainee(accelerator(), linear(), SETTINGS, learning_rate=0.1, total_steps=6)
    by_hand = linear()
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.1, betas=(0.8, 0.9), weight_decay=0.1, eps=1e-3)
    for step, x in enumerate(data):
        rate = 0.1 * (step / 2 if step < 2 else (6 - step) / 4)
        assert trainee.current_learning_rate == pytest.approx(rate)
        with trainee.accelerator.accumulate(trainee.module):
            loss = loss_of(trainee.module, x)
            means = trainee.update({"loss": loss, "other": loss.detach() * 2})
        optimizer.zero_grad()
        loss_of(by_hand, x).backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in by_hand.parameters()))
        assert means == pytest.approx({"loss": loss.item(), "other": 2 * loss.item(), "gradient_norm": norm})
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.05)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        for ours, other in zip(trainee.module.parameters(), by_hand.parameters(), strict=True):
            torch.testing.assert_close(ours, other)


def test_batches_of_one_step_are_averaged_and_take_one_step():
    data = [torch.randn(4, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    whole = Trainee(accelerator(), linear(), SETTINGS, learning_rate=0.1, total_steps=4)
    expected, rates = [], []
    for step in range(2):
        both = torch.cat(data[2 * step : 2 * step + 2])
        with whole.accelerator.accumulate(whole.module):
            expected.append(whole.update({"loss": loss_of(whole.module, both)}))
        rates.append(whole.current_learning_rate)
    parts = Trainee(accelerator(2), linear(), SETTINGS, learning_rate=0.1, total_steps=4)
    for step in range(2):
        means = TermMeans()
        for x in data[2 * step : 2 * step + 2]:
            with parts.accelerator.accumulate(parts.module):
                means.add(parts.update({"loss": loss_of(parts.module, x)}))
        assert means.result() == pytest.approx(expected[step])
        assert parts.current_learning_rate == rates[step]
    for ours, other in zip(parts.module.parameters(), whole.module.parameters(), strict=True):
        torch.testing.assert_close(ours, other)


def test_a_later_first_step_shortens_the_schedule():
    trainee = Trainee(accelerator(), linear(), SETTINGS, learning_rate=0.1, total_steps=10, first_step=6)
    rates = []
    for _ in range(4):
        rates.append(trainee.current_learning_rate)
        trainee.update({"loss": loss_of(trainee.module, torch.ones(1, 3))})
    assert rates == pytest.approx([0, 0.05, 0.1, 0.05])
    assert trainee.first_step == 6


def test_gradients_are_not_clipped_by_a_norm_of_0():
    x = 100 * torch.ones(2, 3)
    settings = OptimizationSettings(max_grad_norm=0.0, lr_scheduler="constant", adam_epsilon=1.0)
    trainee = Trainee(accelerator(), linear(), settings, learning_rate=0.1, total_steps=4)
    by_hand = linear()
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0.0, eps=1.0)
    trainee.update({"loss": loss_of(trainee.module, x)})
    loss_of(by_hand, x).backward()
    optimizer.step()
    torch.testing.assert_close(trainee.module.weight, by_hand.weight)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_changes_nothing(value):
    trainee = Trainee(accelerator(), linear(), SETTINGS, learning_rate=0.1, total_steps=4)
    before = trainee.module.weight.detach().clone()
    with pytest.raises(StepFailed, match=f"the loss is {value}"):
        trainee.update({"loss": loss_of(trainee.module, torch.ones(1, 3)) * value})
    assert torch.equal(trainee.module.weight, before)


def test_a_gradient_that_is_not_finite_changes_nothing():
    trainee = Trainee(accelerator(), linear(), SETTINGS, learning_rate=0.1, total_steps=4)
    before = trainee.module.weight.detach().clone()
    loss = loss_of(trainee.module, torch.ones(1, 3))
    with pytest.raises(StepFailed, match="the norm of the gradient is nan"):
        trainee.update({"loss": loss + (loss - loss.detach()).abs().sqrt()})
    assert torch.equal(trainee.module.weight, before)


def test_rates_of_a_checkpoint_become_those_of_now_and_keep_their_course():
    trainee = Trainee(accelerator(), linear(), SETTINGS, learning_rate=0.1, total_steps=10)
    for _ in range(6):
        trainee.update({"loss": loss_of(trainee.module, torch.ones(1, 3))})
    [group] = trainee.optimizer.param_groups
    assert group["lr"] == pytest.approx(0.1 * 4 / 8)
    trainee.learning_rate = 0.02
    trainee.settings = OptimizationSettings(
        lr_scheduler="linear", adam_beta1=0.5, adam_beta2=0.6, adam_epsilon=0.7, adam_weight_decay=0.8
    )
    trainee.restore_settings()
    assert group["lr"] == pytest.approx(0.02 * 4 / 8)
    assert group["initial_lr"] == 0.02
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.5, 0.6), 0.7, 0.8)
    trainee.update({"loss": loss_of(trainee.module, torch.ones(1, 3))})
    assert group["lr"] == pytest.approx(0.02 * 3 / 8)


def test_a_rate_of_0_stays_when_it_is_restored():
    trainee = Trainee(accelerator(), linear(), SETTINGS, learning_rate=0.0, total_steps=10)
    trainee.learning_rate = 0.3
    trainee.restore_settings()
    [group] = trainee.optimizer.param_groups
    assert group["initial_lr"] == 0.3
    assert group["lr"] == 0.3


def test_the_parameters_with_a_gradient():
    module = nn.Sequential(linear(), linear())
    module[1].requires_grad_(False)
    assert [id(p) for p in trained_parameters(module)] == [id(p) for p in module[0].parameters()]
    with pytest.raises(UserError, match="there is nothing to train"):
        trained_parameters(module.requires_grad_(False))


def test_8_bits_need_a_gpu():
    with pytest.raises(UserError, match="--use_8bit_adam needs a CUDA GPU, and this run is on cpu"):
        make_optimizer(OptimizationSettings(use_8bit_adam=True), linear().parameters(), 0.1, torch.device("cpu"))


def test_terms_are_numbers_of_all_processes():
    terms = {"loss": torch.tensor(2.0, requires_grad=True), "mse": torch.tensor(3.0, dtype=torch.float64)}
    assert mean_terms(accelerator(), terms) == {"loss": 2.0, "mse": 3.0}


def test_the_means_of_a_step_are_over_the_batches_that_have_the_term():
    means = TermMeans()
    means.add({"loss": 1.0, "mse": 4.0})
    means.add({"loss": 2.0, "mse": 8.0, "late": 3.0})
    assert means.result() == {"loss": 1.5, "mse": 6.0, "late": 3.0}


def test_the_average_of_the_weights():
    """As diffusers' `EMAModel` has it: after update n the decay is (1 + n) / (10 + n), up to its limit."""
    module = linear()
    average = WeightAverage(module, OptimizationSettings(use_ema=True, ema_max_decay=0.2))
    by_hand = module.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            module.weight.add_(1.0)
        average.update()
        decay = min(0.2, step / (9 + step)) if step > 1 else 0.0
        by_hand = decay * by_hand + (1 - decay) * module.weight.detach()
    trained = module.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), by_hand)
    assert torch.equal(module.weight, trained)
    average.keep()
    torch.testing.assert_close(module.weight.detach(), by_hand)


@pytest.mark.parametrize("use_ema", [False, True])
def test_checkpoints_hold_the_average(use_ema):
    parts = tiny_parts(1, average=use_ema)
    assert ("average" in parts.collect()) == use_ema


def test_without_an_average_the_weights_stay():
    module = linear()
    average = WeightAverage(module, OptimizationSettings())
    before = module.weight.detach().clone()
    average.update()
    with average.applied():
        assert torch.equal(module.weight, before)
    average.keep()
    assert torch.equal(module.weight, before)
