import pytest

from vae_plugin.near import hint, nearest
from vae_plugin.options import options_of
from vae_plugin.options.fields import names_in
from vae_plugin.training.settings import FinetuneOptions

NAMES = [f"--{name}" for name in names_in(options_of(FinetuneOptions))]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--resume", "--resume_from_checkpoint"),  # by letters alone --circles_hue
        ("--ema", "--use_ema"),  # by letters alone --beta
        ("--lr", "--learning_rate"),
        ("--batch_size", "--train_batch_size"),
        ("--epochs", "--num_train_epochs"),
        ("--num_epoch", "--num_train_epochs"),
        ("--max_steps", "--max_train_steps"),
        ("--val_steps", "--validation_steps"),
        ("--output", "--output_dir"),
        ("--output_directory", "--output_dir"),
        ("--model", "--model_type"),
        ("--pretrained_model", "--pretrained_model_name_or_path"),
        ("--hue", "--circles_hue"),
        ("--seeds", "--seed"),
        ("--learning_rte", "--learning_rate"),
        ("--trian_batch_size", "--train_batch_size"),
        ("--mixed_precison", "--mixed_precision"),
        ("--discriminatr", "--discriminator"),  # which disc begins too
        ("seed", "--seed"),
    ],
)
def test_words_count_before_letters(typed, meant):
    assert meant in nearest(typed, NAMES)


@pytest.mark.parametrize("typed", ["--fp16", "--zzz", "--gpus", "", "-", "_", "--o"])
def test_nothing_is_better_than_a_name_that_misleads(typed):
    assert nearest(typed, NAMES) == []


def test_every_name_is_found_with_a_letter_too_many_or_without_its_last_word():
    for name in NAMES:
        if len(name) > 6:
            assert name in nearest(f"{name[:-1]}x{name[-1]}", NAMES)
        beginning = name.rpartition("_")[0]
        if len(beginning) > 4 and beginning not in NAMES:
            words = set(beginning.strip("-").split("_"))
            for near in nearest(beginning, NAMES):
                assert near.startswith(beginning) or words <= set(near.strip("-").split("_"))


def test_the_sentence_names_a_few():
    assert hint("--emma", ["--ema"], "look at the help.") == "did you mean '--ema'?"
    assert hint("ema", ["use_ema", "ema_decay", "ema_max_decay"], "") == (
        "did you mean 'use_ema', 'ema_decay' or 'ema_max_decay'?"
    )
    assert hint("ema", ["beta"], "look at the help.") == "look at the help."
