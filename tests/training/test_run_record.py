"""What a run tells of itself: a command that repeats it, the base beside the result, no path of the machine."""

import json
import math
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from support.runs import options
from vae_plugin import AutoencoderVAE, finetune, pictures
from vae_plugin.errors import UserError
from vae_plugin.metrics.evaluation import Evaluation
from vae_plugin.options import flat, given_in, parse
from vae_plugin.training.evaluation import compare_with_base, save_base
from vae_plugin.training.settings import FinetuneOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of photographs, and a model with a card to start from."""
    root = tmp_path_factory.mktemp("somewhere")
    generator = torch.Generator().manual_seed(0)
    (root / "photos").mkdir()
    for i in range(30):
        pixels = torch.randint(0, 256, (4, 4), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).resize((20, 18)).save(root / "photos" / f"{i:02d}.png")
    torch.manual_seed(0)
    model = AutoencoderVAE(
        in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, mid_block_add_attention=False
    )
    model.save_pretrained(root / "base")
    (root / "base" / "README.md").write_text("---\nlicense: other\nlicense_name: mine\n---\nBase.\n")
    return root


@pytest.fixture(scope="module")
def tuned(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "out"
    changes = {
        "pretrained_model_name_or_path": str(folder / "base"),
        "train_data_dir": str(folder / "photos"),
        "num_validation_images": 4,
        "block_out_channels": (8, 8),
        "beta": 0.5,
        "random_flip": True,
        "center_crop": True,
    }
    finetune.train(options(out, **changes))
    return out, options(out, **changes)


def test_the_command_repeats_the_run(tuned):
    out, given = tuned
    words = shlex.split(json.loads((out / "run.json").read_text())["command"].replace("\\\n", " "))
    assert words[:2] == ["vae-plugin", "finetune"]
    told = parse(FinetuneOptions, words[2:])
    expected = flat(given) | {
        "pretrained_model_name_or_path": "base", "train_data_dir": ("photos",), "output_dir": "out",
    }  # fmt: skip
    assert flat(told) == expected
    assert given_in(told) == given_in(given)


@pytest.mark.parametrize("old", ["Wörter".encode("cp1252"), b"---\n{: broken\n---\n", b"---\ntags: {a: b}\n---\n"])
def test_a_card_that_could_not_be_kept_is_refused_before_training(tmp_path, old):
    (tmp_path / "README.md").write_bytes(old)
    with pytest.raises(UserError, match=r"README\.md|existing card"):
        finetune.train(options(tmp_path, max_train_steps=1))
    assert (tmp_path / "README.md").read_bytes() == old
    assert not (tmp_path / "config.json").exists()


@pytest.mark.slow
def test_the_code_of_the_card_gives_the_picture_that_it_shows(tuned):
    out, _ = tuned
    code = (out / "README.md").read_text().split("```python\n")[1].partition("```")[0]
    names: dict = {}
    exec(code.replace("PATH-OR-HUB-ID", str(out)), names)
    for name, picture in (("example", names["image"]), ("example-decoded", names["picture"])):
        with Image.open(out / "samples" / f"{name}.png") as shown:
            assert shown.convert("RGB").tobytes() == picture.convert("RGB").tobytes()


def test_the_base_model_s_reconstructions_stand_beside_those_of_the_result(tuned, folder):
    """In the row between the originals and the reconstructions, of a base that decodes as its folder does."""
    out, _ = tuned
    with (
        Image.open(out / "samples" / "reconstructions.png") as sheet,
        Image.open(out / "samples" / "example.png") as image,
    ):
        side, gap = 64, pictures.GAP  # small images are enlarged to that
        tiles = [sheet.crop((gap, top, gap + side, top + side)) for top in range(gap, 3 * (side + gap), side + gap)]
        example = image.convert("L")
    base = pictures.round_trip(AutoencoderVAE.from_pretrained(folder / "base").eval(), example)
    for tile, expected in zip(tiles, (example, base), strict=False):
        difference = np.subtract(*(np.asarray(x, dtype=int) for x in (tile.resize(example.size, 0), expected)))
        assert abs(difference).max() <= 1  # a last bit of float32
    assert tiles[2].tobytes() != tiles[1].tobytes()


def test_no_path_of_the_machine_is_told(tuned, folder):
    out, _ = tuned
    for name in ("README.md", "run.json", "metrics.json"):
        text = (out / name).read_text()
        assert str(folder) not in text
        assert str(out.parent) not in text


def test_the_licence_of_the_base_is_inherited_and_of_none_none_is_made_up(tuned, tmp_path):
    out, _ = tuned
    card = (out / "README.md").read_text()
    assert "license: other\nlicense_name: mine\n" in card
    finetune.train(options(tmp_path / "new", max_train_steps=1))
    assert "license" not in (tmp_path / "new" / "README.md").read_text()


def test_the_base_is_measured_on_the_same_images(folder, tmp_path):
    """A run that changes nothing has the numbers of its base, and a gain of nothing."""
    changes = {"pretrained_model_name_or_path": str(folder / "base"), "train_data_dir": str(folder / "photos")}
    still = {"learning_rate": 0.0, "latent_scaling": "keep", "num_validation_images": 4, "max_train_steps": 2}
    metrics = finetune.train(options(tmp_path / "out", **changes, **still))
    assert metrics["base_psnr"] == pytest.approx(metrics["psnr"])
    assert metrics["base_ssim"] == pytest.approx(metrics["ssim"])
    assert metrics["psnr_gain"] == pytest.approx(0)


def test_the_gain_and_its_interval(tmp_path):
    save_base(Evaluation({"psnr": 22.0, "num_images": 3}, {"psnr": [20.0, 22.0, 24.0]}), tmp_path / "base.json")
    after = Evaluation({"psnr": 24.0, "bits_per_dim": 3.0}, {"psnr": [21.0, 24.0, 27.0]})
    result = compare_with_base(after, tmp_path / "base.json")
    # Student's t of two degrees of freedom at 97.5 %, from a table.
    assert result == {
        "base_psnr": 22.0,
        "psnr_gain": 2.0,
        "psnr_gain_ci95": pytest.approx(4.302653 / math.sqrt(3), rel=1e-6),
    }
    others = Evaluation({"psnr": 21.0}, {"psnr": [21.0]})
    assert compare_with_base(others, tmp_path / "base.json") == {}
    assert compare_with_base(others, tmp_path / "none.json") == {}
    for damaged in (
        "{}",
        '{"psnr": 3, "metrics": {}}',
        '{"psnr": ["x"], "metrics": {}}',
        '{"psnr": [1.0], "metrics": []}',
    ):
        (tmp_path / "base.json").write_text(damaged)
        with pytest.raises(UserError, match="does not hold the measures of a model: remove it"):
            compare_with_base(others, tmp_path / "base.json")


def test_what_version_0_1_called_bits_is_not_compared(tmp_path):
    before = {"psnr": 22.0, "bits_per_dim": 1.5, "elbo_nats": -9.0}
    save_base(Evaluation(before, {"psnr": [22.0]}), tmp_path / "base.json")
    after = Evaluation({"psnr": 23.0, "bits_per_dim_bound": 8.5, "elbo_nats": -8.0}, {"psnr": [23.0]})
    result = compare_with_base(after, tmp_path / "base.json")
    assert result == {"base_psnr": 22.0, "base_elbo_nats": -9.0, "psnr_gain": 1.0}
