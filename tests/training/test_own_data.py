"""Data sets that are given from Python: what is accepted, the held-out split, continued runs, and what is refused."""

import inspect
import json
import random
import re
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from support.runs import LIKE_SGD, assert_same, curves, finish, start, weights
from support.tiny_diffusers import tiny
from vae_plugin import finetune
from vae_plugin.datasets.errors import DataError
from vae_plugin.datasets.own import OwnImages, generators_kept, seed_generators
from vae_plugin.errors import TrainingStopped, UserError
from vae_plugin.finetune import train
from vae_plugin.options import given_in, parse
from vae_plugin.training.losses import PatchDiscriminator
from vae_plugin.training.own_data import Given, open_own
from vae_plugin.training.settings import FinetuneOptions

SMALL = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
    "max_train_steps": 3,
    "lr_warmup_steps": 1,
    "checkpointing_steps": 1,
    "train_batch_size": 4,
}


class Images(Dataset):
    """Smooth images that are known by their numbers."""

    def __init__(self, count=24, shape=(2, 16, 16), dtype=torch.float32, form="tensor", noise=None, bad=None):
        self.count, self.shape, self.dtype, self.form, self.noise, self.bad = count, shape, dtype, form, noise, bad
        self.seen = []

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        self.seen.append(i)
        if self.bad == i:
            raise OSError("the disk is gone")
        image = torch.linspace(-0.9, 0.9, self.shape[-1], dtype=self.dtype).expand(self.shape) * (1 - i / self.count)
        if self.noise == "theirs":
            image = image + 0.05 * (torch.rand(1).item() + np.random.rand() + random.random() - 1.5)
        elif self.noise == "other":
            image = image + 0.05 * np.random.default_rng().random()
        return {"tensor": image, "dict": {"pixel_values": image, "label": i}, "tuple": (image, i)}[self.form]


class Of(Dataset):
    """One item many times."""

    def __init__(self, item, count=20):
        self.item, self.count = item, count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return self.item


def own(output_dir, **changes):
    return finetune.options(**{**SMALL, "output_dir": str(output_dir), **changes})


@pytest.mark.parametrize("form", ["tensor", "dict", "tuple"])
def test_items_of_every_form_are_the_same_images(form):
    images, plain = OwnImages(Images(form=form, dtype=torch.float64), "dataset", 0), Images()
    assert images.shape == (2, 16, 16)
    for i in (0, 7, 23):
        assert images[i]["pixel_values"].dtype == torch.float32
        torch.testing.assert_close(images[i]["pixel_values"], plain[i])
    assert (
        len({OwnImages(Images(form=form), "dataset", seed).digest for form in ("tensor", "dict") for seed in (0, 3)})
        == 1
    )
    assert OwnImages(Images(25), "dataset", 0).digest != OwnImages(Images(24), "dataset", 0).digest


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        (Of(torch.rand(3, 8, 8)), r"seem to be in \[0, 1\].*2 \* image - 1"),
        (Of(torch.rand(3, 8, 8) * 255), r"item 0 of dataset has values from .* to 25.*image / 127.5 - 1"),
        (Of(torch.randn(3, 8, 8) * 2), r"has values from .*clamp"),
        (Of(torch.full((3, 8, 8), torch.nan)), "not finite"),
        (Of(torch.zeros(3, 8, 8, dtype=torch.uint8)), "has the type torch.uint8: give floats"),
        (Of(torch.zeros(8, 8)), r"is 8 x 8: give tensors \(C, H, W\)"),
        (Of(torch.zeros(3, 0, 8)), r"is 3 x 0 x 8: give tensors"),
        (Of(np.zeros((3, 8, 8))), "item 0 of dataset is a ndarray without a tensor"),
        (Of({"image": torch.zeros(3, 8, 8)}), "is a dict without a tensor"),
        (Of(None), "is a NoneType without a tensor"),
        (Of(torch.zeros(3, 8, 8), count=0), "is empty"),
        (Of(torch.zeros(3, 8, 8), count=-1), "length of dataset cannot be told"),
        (Images(bad=0), "item 0 of dataset cannot be read: OSError: the disk is gone"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 16, 8)], "item 1 of dataset is 3 x 16 x 8, and item 0 is 3 x 8 x 8"),
        (iter([1]), "whose items have no numbers"),
        (
            type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(())})(),
            "Stream, whose items have no numbers",
        ),
    ],
)
def test_what_is_no_data_set_of_images_is_refused_in_a_sentence(dataset, sentence):
    with pytest.raises(DataError, match=sentence) as raised:
        OwnImages(dataset, "dataset", 0)
    assert "\n" not in str(raised.value)


def test_lists_and_tensor_data_sets_are_accepted():
    x = torch.rand(5, 4, 6, 7) * 2 - 1
    for dataset in (list(x), TensorDataset(x, torch.arange(5))):
        assert torch.equal(OwnImages(dataset, "dataset", 0)[3]["pixel_values"], x[3])


def test_random_augmentation_depends_on_seed_epoch_and_number_alone():
    images = OwnImages(Images(noise="theirs"), "dataset", 1)
    assert images.digest == OwnImages(Images(noise="theirs"), "dataset", 1).digest
    before, state = images[5]["pixel_values"], torch.get_rng_state()
    images[6]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images[5]["pixel_values"], before)
    images.set_epoch(1)
    assert not torch.equal(images[5]["pixel_values"], before)
    measured = images.drawn(3)
    assert torch.equal(
        measured[0]["pixel_values"], OwnImages(Images(noise="theirs"), "dataset", 1).drawn(3)[0]["pixel_values"]
    )


def test_numbers_drawn_within_a_block_leave_the_generators_as_they_were():
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    with generators_kept():
        seed_generators((1, 2))
        inside = torch.rand(1), np.random.rand(), random.random()
    assert (torch.rand(1), np.random.rand(), random.random()) == expected
    with generators_kept():
        seed_generators((1, 2))
        assert (torch.rand(1), np.random.rand(), random.random()) == inside


def test_other_random_numbers_are_told_of(capsys):
    images = OwnImages(Images(noise="other"), "a data set of this test", 0)
    assert "is another image whenever it is read" in capsys.readouterr().err
    assert images.digest == OwnImages(Images(noise="other"), "a data set of this test", 0).digest


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run on images of two channels with random augmentation: its folder, metrics, and data set."""
    folder = tmp_path_factory.mktemp("own") / "out"
    dataset = Images(noise="theirs", form="dict")
    return folder, train(own(folder), dataset=dataset), dataset


def test_a_run_holds_out_a_tenth_and_says_what_it_was_made_with(run):
    folder, metrics, dataset = run
    assert metrics["num_images"] == 2
    record = json.loads((folder / "run.json").read_text())
    assert (record["dataset"], record["split"]) == ("a data set given from Python", "held out of training")
    assert record["train_images"] == 22
    assert record.get("command") is None
    assert "a data set given from Python" in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["in_channels"] == 2
    held_out = {int(name.split()[1]) for name in json.loads((folder / "data.json").read_text())["held_out"]}
    images = OwnImages(dataset, "dataset", 0)
    assert held_out == set(np.random.default_rng(0).permutation(24)[:2].tolist())
    assert set(images.drawn(2).rows.tolist()) == held_out


def test_a_run_continues_to_the_bit(run, tmp_path):
    folder, metrics, dataset = run
    after, curve = weights(folder), curves(folder)
    again = train(own(folder, resume_from_checkpoint="step-000001", dataloader_num_workers=1), dataset=dataset)
    assert_same(weights(folder), after)
    assert [line["loss"] for line in curves(folder)[-2:]] == [line["loss"] for line in curve[-2:]]
    assert again["psnr"] == metrics["psnr"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"dataset": Images(25, noise="theirs")}, "dataset is not that of the checkpoint"),
        ({"dataset": Images(24)}, "dataset is not that of the checkpoint"),
        ({"dataset": Images(noise="theirs"), "validation_dataset": Images(4)}, "validation_dataset is not that of"),
        ({}, "made with a data set given from Python"),
    ],
)
def test_a_run_continues_with_the_same_data_set_only(run, data, sentence):
    with pytest.raises(UserError, match=sentence):
        train(own(run[0], resume_from_checkpoint="latest"), **data)


def test_the_options_that_a_run_wrote_name_its_data_set(run, tmp_path):
    """Without it, a run that starts from them would train on the default data."""
    words = ["--config", str(run[0] / "training_options.yaml"), "--output_dir", str(tmp_path / "again")]
    with pytest.raises(UserError, match=r"a data set that was given from Python: give one again by train\(options"):
        train(parse(FinetuneOptions, words))
    again = parse(FinetuneOptions, words)
    assert open_own(Given(Images()), again).size == (16, 16)
    assert "dataset_name" not in given_in(again)
    assert again.data.dataset_name is None
    folder = parse(FinetuneOptions, [*words, "--train_data_dir", "photos"]).data
    assert (folder.train_data_dir, folder.dataset_name) == (("photos",), None)


def test_a_validation_set_of_its_own(tmp_path):
    dataset, validation = Images(12, shape=(1, 16, 24)), Images(30, shape=(1, 16, 24))
    metrics = train(
        own(tmp_path / "out", max_train_steps=1, num_validation_images=5),
        dataset=dataset,
        validation_dataset=validation,
    )
    assert metrics["num_images"] == 5
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["train_images"], record["split"]) == (12, "a validation set given from Python")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_data_dir": "photos"}, "--train_data_dir has no effect on a data set that is given from Python"),
        ({"dataset_name": "circles"}, "--dataset_name has no effect on a data set that is given from Python"),
        ({"dataset_name": "user/data", "streaming": True}, "has no effect on a data set that is given from Python"),
        ({"circles_length": 9}, "--circles_length needs --dataset_name circles"),
        ({"resolution": 32}, "--resolution is 32, and the images of dataset are 16 x 16"),
        ({"in_channels": 3}, r"dataset have 2 channel\(s\), and the model takes 3"),
    ],
)
def test_options_that_concern_other_data_are_refused(tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        train(own(tmp_path / "out", **changes), dataset=Images())


def test_the_model_decides_the_channels(tmp_path):
    tiny("AutoencoderKL").save_pretrained(tmp_path / "kl")
    values = {"output_dir": str(tmp_path / "out"), "pretrained_model_name_or_path": str(tmp_path / "kl")}
    with pytest.raises(UserError, match=r"dataset have 2 channel\(s\), and the model takes 3"):
        train(finetune.options(**values), dataset=Images())
    with pytest.raises(UserError, match="are 16 x 15, and this AutoencoderKL takes multiples of"):
        train(finetune.options(**values), dataset=Images(shape=(3, 16, 15)))
    with pytest.raises(UserError, match="give both"):
        train(finetune.options(**values), validation_dataset=Images())


def critic():
    """With normalisation over the batch, whose averages are part of the state."""
    torch.manual_seed(1)
    layers = torch.nn.Conv2d(2, 4, 4, 2), torch.nn.BatchNorm2d(4), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(4, 1, 3)
    return torch.nn.Sequential(*layers)


def test_a_discriminator_of_ones_own_is_trained_saved_and_continued(tmp_path):
    adversarial = {"reconstruction_loss": "l1", "disc_start": 0, "max_train_steps": 2}
    network, at_first = critic(), critic().state_dict()
    train(own(tmp_path / "out", **adversarial), dataset=Images(), discriminator=network)
    saved = load_file(tmp_path / "out" / "discriminator" / "model.safetensors")
    assert_same(saved, network.state_dict())
    assert not torch.equal(saved["0.weight"], at_first["0.weight"])
    assert (saved["1.running_mean"] != 0).all()
    after = weights(tmp_path / "out")
    again = critic()
    more = {"resume_from_checkpoint": "step-000001"}
    train(own(tmp_path / "out", **adversarial, **more), dataset=Images(), discriminator=again)
    assert_same(weights(tmp_path / "out"), after)
    assert_same(again.state_dict(), saved)
    with pytest.raises(UserError, match=r"cannot be continued so: .*model_1 does not fit"):
        train(own(tmp_path / "out", **adversarial, **more), dataset=Images(), discriminator=torch.nn.Conv2d(2, 1, 5))


@pytest.mark.parametrize(
    ("changes", "networks", "sentence"),
    [
        ({"reconstruction_loss": "l1"}, {"discriminator": critic()}, "needs --disc_start"),
        (
            {"disc_start": 0, "disc_layers": 1},
            {"discriminator": critic()},
            "takes the place of what --disc_layers says",
        ),
        ({"disc_start": 0}, {"discriminator": torch.nn.Conv2d(3, 1, 3)}, "does not take images of 2 x 16 x 16"),
        (
            {"disc_start": 0},
            {"discriminator": PatchDiscriminator(3, 4, 1)},
            r"made for images of 3 channel\(s\), and this run shows it 2",
        ),
        ({"disc_start": 0}, {"discriminator": torch.nn.LSTM(16, 4)}, "does not take images|must return a tensor"),
        ({"disc_start": 0}, {"discriminator": lambda x: x}, "discriminator= is a function: give a torch module"),
        ({"reconstruction_loss": "elbo"}, {"discriminator": critic()}, "has no effect with --reconstruction_loss elbo"),
        ({"reconstruction_loss": "elbo"}, {"perceptual": torch.nn.L1Loss()}, "perceptual= has no effect with"),
        (
            {"perceptual_loss": "lpips-vgg"},
            {"perceptual": torch.nn.L1Loss()},
            "takes the place of what --perceptual_loss",
        ),
    ],
)
def test_networks_that_a_run_would_not_use_are_refused(tmp_path, changes, networks, sentence):
    with pytest.raises(UserError, match=sentence):
        train(own(tmp_path / "out", **{"reconstruction_loss": "l1", **changes}), dataset=Images(), **networks)


def test_an_item_that_fails_in_training_is_named(tmp_path):
    dataset = Images(100, bad=41)
    with pytest.raises(TrainingStopped, match="item 41 of dataset cannot be read: OSError: the disk is gone"):
        train(own(tmp_path / "out", max_train_steps=60), dataset=dataset)


@pytest.mark.slow
@pytest.mark.slow
def test_the_example_of_the_docstring_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = re.search(r"need no files:\n\n(.*?)\n\n    Args:", inspect.getdoc(train) + "\n\n    Args:", re.S)[1]
    example = textwrap.dedent(example.partition("\nArgs:")[0])
    assert len(example.strip().splitlines()) <= 10
    small = (
        "max_train_steps=1, train_batch_size=2, lr_scheduler='constant', block_out_channels=(8, 8), norm_num_groups=4"
    )
    exec(example.replace("max_train_steps=100", small), {"torch": torch, "train": train, "options": finetune.options})
    assert (tmp_path / "out" / "config.json").is_file()


TWO_PROCESSES = """
import json, sys, torch
from vae_plugin.finetune import options, train

class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 26

    def __getitem__(self, i):
        return torch.linspace(-0.9, 0.9, 16).expand(1, 16, 16) * (1 - i / 26) + 0.05 * torch.rand(1)

train(options(**json.loads(sys.argv[1])), dataset=Images())
"""


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    for processes in (1, 2):
        made = {**SMALL, **LIKE_SGD, "output_dir": str(tmp_path / str(processes)), "train_batch_size": 4 // processes}
        finish(start([*launch, str(processes), str(script)], json.dumps(made)))
    one, two = (weights(tmp_path / str(processes)) for processes in (1, 2))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
    for first, second in zip(curves(tmp_path / "1"), curves(tmp_path / "2"), strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-4)
