"""Optimisers by name: they are those of their libraries, go on from checkpoints bit for bit, or are refused."""

import inspect
import math
import sys

import pytest
import torch
from pytorch_optimizer import Lion
from torch import nn

from support.runs import assert_same, options, weights
from support.tiny_parts import tiny_checkpoint, tiny_parts
from vae_plugin import finetune
from vae_plugin.errors import UserError
from vae_plugin.options import build, changed, keep_what_was, to_dict
from vae_plugin.training import checkpoints
from vae_plugin.training import run as run_module
from vae_plugin.training.optimizers import find_optimizer, torch_optimizers
from vae_plugin.training.settings import FinetuneOptions
from vae_plugin.training.trainee import make_optimizer

CPU = torch.device("cpu")


def settings(**values):
    return build(FinetuneOptions, values).optimization


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def steps(module, optimizer, count=3):
    for step in range(count):
        optimizer.zero_grad()
        module(torch.full((2, 3), step - 1.0)).square().mean().backward()
        optimizer.step()
    return module.state_dict()


@pytest.mark.parametrize(
    ("given", "by_hand"),
    [
        ({"optimizer": "adamw"}, lambda p: torch.optim.AdamW(p, 0.1, betas=(0.9, 0.99), weight_decay=0, fused=True)),
        (
            {"optimizer": "AdamW", "adam_beta1": 0.5},
            lambda p: torch.optim.AdamW(p, 0.1, (0.5, 0.99), weight_decay=0, fused=True),
        ),
        (
            {"optimizer": "adamw", "optimizer_args": ("amsgrad=true",), "adam_epsilon": 0.1},
            lambda p: torch.optim.AdamW(p, 0.1, (0.9, 0.99), 0.1, 0, amsgrad=True),
        ),
        ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, 0.1)),
        (
            {"optimizer": "sgd", "optimizer_args": ("momentum=.9", "nesterov=true"), "adam_weight_decay": 0.2},
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.2),
        ),
        ({"optimizer": "rmsprop", "adam_epsilon": 0.1}, lambda p: torch.optim.RMSprop(p, 0.1, eps=0.1)),
        (
            {"optimizer": "adafactor", "optimizer_args": ("eps=none,0.01", "d=2")},
            lambda p: torch.optim.Adafactor(p, 0.1, eps=(None, 0.01), d=2),
        ),
        ({"optimizer": "lion", "adam_beta2": 0.5}, lambda p: Lion(p, 0.1, betas=(0.9, 0.5))),
        ({"optimizer": "torch.optim:Rprop"}, lambda p: torch.optim.Rprop(p, 0.1)),
    ],
)
def test_an_optimizer_is_that_of_its_library_with_the_arguments_given(given, by_hand):
    ours, theirs = linear(), linear()
    made = make_optimizer(settings(**given), ours.parameters(), 0.1, CPU)
    assert_same(steps(ours, made), steps(theirs, by_hand(theirs.parameters())))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adamw", ("amsgrad=true",)),
        ("sgd", ("momentum=0.9",)),
        *[(name, ()) for name in ("adafactor", "nadam", "adagrad", "lion", "ranger", "came")],
    ],
)
def test_a_run_goes_on_bit_for_bit(name, arguments, tmp_path):
    """Both trainees, by way of the files of a checkpoint; one of the weights is channels_last."""
    given = {"optimizer": name, "optimizer_args": arguments}
    parts = tiny_parts(steps=3, **given)
    tiny_checkpoint(tmp_path, parts=parts)
    path = tmp_path / "checkpoints" / "step-000001"
    again = tiny_parts(steps=1, **given)
    again.restore(checkpoints.read_states(path, checkpoints.read_checkpoint(path)))
    for run in (parts, again):
        torch.manual_seed(7)
        for trainee in run.trainees:
            trainee.restore_settings()
            for _ in range(3):
                trainee.update(trainee.module(torch.randn(3, 2, 4, 4)))
    for one, other in zip(parts.trainees, again.trainees, strict=True):
        assert_same(one.module.state_dict(), other.module.state_dict())


def test_a_whole_run_goes_on_bit_for_bit_and_keeps_its_optimizer(tmp_path):
    given = {
        "optimizer": "prodigy", "optimizer_args": ("d0=0.001",), "learning_rate": 1.0, "use_ema": True,
        "max_train_steps": 4, "checkpointing_steps": 2, "circles_length": 20, "resolution": 8,
        "num_validation_images": 2, "block_out_channels": (4, 4), "norm_num_groups": 2,
    }  # fmt: skip
    finetune.train(options(tmp_path, **given))
    whole = weights(tmp_path)
    resume = {**given, "resume_from_checkpoint": "step-000002"}
    finetune.train(options(tmp_path, **resume))
    assert_same(whole, weights(tmp_path))
    for name, value in (("optimizer", "adam"), ("optimizer_args", ("d0=0.01",))):
        other = {**resume, name: value} if name != "optimizer" else {**resume, name: value, "optimizer_args": ()}
        with pytest.raises(UserError, match=f"cannot be continued so: --{name} was .*a resumed run must keep it"):
            finetune.train(options(tmp_path, **other))


def test_old_checkpoints_are_of_adamw():
    then = {"adam_beta1": 0.9, "adam_beta2": 0.99, "adam_weight_decay": 0.0, "adam_epsilon": 1e-8}
    now = build(FinetuneOptions)
    now.optimization.settle_optimizer()
    keep_what_was(then, now)
    assert changed(then, now) == {}
    other = build(FinetuneOptions, {"optimizer": "adam"})
    keep_what_was(then, other)
    with pytest.raises(UserError, match="--optimizer was adamw and is now adam"):
        changed(then, other)


def test_settings_given_on_resume_are_set_where_the_optimizer_has_them():
    given = {"optimizer": "sgd", "optimizer_args": ("momentum=0.9",)}
    [trainee] = tiny_parts(1, **given).trainees
    trainee.settings = settings(**given, adam_weight_decay=0.3)
    trainee.restore_settings()
    [group] = trainee.optimizer.param_groups
    assert (group["weight_decay"], group["momentum"]) == (0.3, 0.9)
    assert "betas" not in group


def test_a_checkpoint_names_the_defaults_of_its_optimizer():
    made = build(FinetuneOptions, {"optimizer": "radam", "adam_beta2": 0.5})
    made.optimization.settle_optimizer()
    values = to_dict(made)
    assert (values["adam_beta1"], values["adam_beta2"], values["adam_epsilon"]) == (0.9, 0.5, 1e-8)
    made = build(FinetuneOptions, {"optimizer": "sgd"})
    made.optimization.settle_optimizer()
    assert to_dict(made)["adam_beta1"] is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "adamv"}, "--optimizer is 'adamv': did you mean 'adam'"),
        ({"optimizer": "xyzzy"}, r"give one of torch.optim \(adadelta, .*\), of pytorch-optimizer, or MODULE:CLASS"),
        ({"optimizer": "torch.optim:Nothing"}, "no attribute 'Nothing'. Give MODULE:CLASS that can be imported"),
        ({"optimizer": "torch.nn:Linear"}, "is no subclass of torch.optim.Optimizer"),
        ({"optimizer": "sgd", "adam_beta1": 0.9}, "--adam_beta1 has no effect on --optimizer sgd.* no pair of betas"),
        ({"optimizer": "adafactor", "adam_epsilon": 0.1}, "--adam_epsilon has no effect on .* no eps of one number"),
        ({"optimizer": "rprop", "adam_weight_decay": 0.1}, "--adam_weight_decay .* which has no weight_decay"),
        ({"optimizer": "sgd", "use_8bit_adam": True}, "--use_8bit_adam applies only to --optimizer adamw, not to sgd"),
        ({"optimizer_args": ("momentum",)}, "write NAME=VALUE"),
        ({"optimizer": "sgd", "optimizer_args": ("momentun=0.9",)}, "no argument 'momentun'; did you mean 'momentum'"),
        ({"optimizer": "sgd", "optimizer_args": ("momentum=0.9", "momentum=0.8")}, "gives momentum twice"),
        ({"optimizer": "sgd", "optimizer_args": ("momentum=high",)}, "momentum of sgd is a number, got 'high'"),
        ({"optimizer": "sgd", "optimizer_args": ("nesterov=1",)}, "nesterov of sgd is true or false, got '1'"),
        ({"optimizer": "rprop", "optimizer_args": ("etas=0.5",)}, "etas of rprop is 2 values with commas"),
        ({"optimizer": "rprop", "optimizer_args": ("etas=low,high",)}, "etas of rprop is 2 values with commas"),
        ({"optimizer": "sgd", "optimizer_args": ("momentum=1e400",)}, "a value is a finite number, true, false, none"),
        ({"optimizer": "sgd", "optimizer_args": ("momentum=1_0",)}, "momentum of sgd is a number, got '1_0'"),
        ({"optimizer": "sgd", "optimizer_args": ("momentum=",)}, "a value is a finite number, true, false, none"),
        ({"optimizer": "adam", "optimizer_args": ("foreach=abc",)}, "foreach of adam is true or false, got 'abc'"),
        ({"optimizer": "sgd", "optimizer_args": ("maximize=true",)}, "maximize=true would make the loss larger"),
        ({"optimizer_args": ("params=1",)}, "adamw has no argument 'params'"),
        ({"optimizer_args": ("lr=1",)}, "lr=1: give --learning_rate instead"),
        ({"optimizer_args": ("eps=1",)}, "eps=1: give --adam_epsilon instead"),
    ],
)  # fmt: skip
def test_what_an_optimizer_does_not_have_is_refused_with_the_options(values, message):
    with pytest.raises(UserError, match=message):
        build(FinetuneOptions, values)


def test_hostile_arguments_of_every_optimizer_of_torch():
    """What is taken is finite, and of the type that the signature gives."""
    words = ["", " ", "nan", "inf", "-inf", "1e400", "1_0", "abc", "1,", ",", "nan,nan", "a=b", "１", "0.5,inf", "[1]"]
    words += ["true", "none", "3", "0.5", "-1", "0.5,0.5", "1,2,3"]
    taken = 0
    for name, make in torch_optimizers().items():
        for argument in (*inspect.signature(make).parameters, "unknown"):
            for word in words:
                try:
                    [value] = find_optimizer(name).read([f"{argument}={word}"]).values()
                except UserError:
                    continue
                taken += 1
                default = inspect.signature(make).parameters[argument].default
                assert argument not in ("lr", "params")
                pairs = zip(value, default, strict=True) if isinstance(value, tuple) else [(value, default)]
                for item, usual in pairs:
                    if isinstance(item, str):
                        assert argument in ("adjust_lr_fn", "line_search_fn")
                    elif item is not None:
                        assert math.isfinite(item)
                        assert isinstance(item, bool) == isinstance(usual, bool) or usual is None
                if argument in ("foreach", "fused"):
                    assert value in (True, None)
    assert taken > 50


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lbfgs", (), "missing 1 required positional argument: 'closure'"),
        ("sparseadam", (), "does not support dense gradients"),
        ("muon", (), "only supports 2D parameters"),
        ("sgd", ("momentum=-1",), "Invalid momentum value"),
        ("schedulefreeadamw", (), "the weights that it trains are not those to evaluate"),
        ("a2grad", (), "no learning rate"),
        ("adashift", (), "its state cannot be kept in a checkpoint"),
        ("gravity", (), "draws random numbers"),
    ],
)
def test_an_optimizer_that_does_not_fit_is_refused_before_the_first_step(name, arguments, message):
    with pytest.raises(UserError, match=f"--optimizer {name} does not fit this training: .*{message}"):
        make_optimizer(settings(optimizer=name, optimizer_args=arguments), linear().parameters(), 0.1, CPU)


def test_a_trial_leaves_the_random_numbers_as_they_were():
    module = linear()
    before = torch.get_rng_state()
    make_optimizer(settings(optimizer="adam"), module.parameters(), 0.1, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(UserError, match=r"Those of pytorch-optimizer, .*need pip install 'vae-plugin\[optimizers\]'"):
        build(FinetuneOptions, {"optimizer": "lion"})
    with pytest.raises(UserError, match="Did you mean 'adagrad'"):
        build(FinetuneOptions, {"optimizer": "adagard"})


def test_a_learning_rate_that_was_left_open_is_told(capsys, monkeypatch):
    monkeypatch.setattr(run_module, "say_once", lambda kind, sentence: print(sentence))
    for name, told in (
        ("sgd", "1e-05, the default for AdamW; that of sgd itself is 0.001: --learning_rate"),
        ("adamw", ""),
    ):
        made = settings(optimizer=name)
        made.learning_rate = 1e-5
        run_module.say_default_rate(made)
        printed = capsys.readouterr().out
        assert told in printed
        assert bool(told) == bool(printed)
