"""Whatever stands in a config.json: it opens and runs, or one sentence names the field."""

import inspect
import json
import random

import pytest
import torch

from support.tiny_diffusers import CONFIGS, tiny
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.autoencoders import load_autoencoder, new_from_config
from vae_plugin.cli import main
from vae_plugin.errors import UserError
from vae_plugin.json_types import accepted, fits

OURS = {"in_channels": 1, "block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}
MODELS = {
    "AutoencoderVAE": lambda: AutoencoderVAE(**OURS),
    "mlp": lambda: AutoencoderVAE(**OURS, network="mlp", hidden_sizes=(8,)),
    "AutoencoderVQVAE": lambda: AutoencoderVQVAE(**OURS),
    **{cls.__name__: (lambda name=cls.__name__: tiny(name)) for cls in CONFIGS},
}
WRONG_TYPES = [[["x"]], {"a": 1}]  # of no field
VALUES = [
    "x",
    None,
    True,
    -1,
    0,
    3,
    10**9,
    10**400,
    2.5,
    float("nan"),
    [],
    [1],
    [8, 8],
    [-8, -8],
    [None],
    {},
    [8] * 99,
    1e30,
]
DRAWN = 10


def answer(door, *arguments):
    try:
        return door(*arguments)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", MODELS)
def test_any_value_of_any_field(name, tmp_path):
    model = MODELS[name]()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    fields = [field for field in config if field in inspect.signature(type(model)).parameters]
    draw = random.Random(0)
    cases = [(field, WRONG_TYPES[i % 2]) for i, field in enumerate(fields)]
    cases += [(draw.choice([*config, "auto_map", "quantization_config"]), draw.choice(VALUES)) for _ in range(DRAWN)]
    doors = [lambda folder: load_autoencoder(str(folder)), lambda folder: new_from_config(str(folder))]
    doors += [type(model).from_pretrained] if name not in [cls.__name__ for cls in CONFIGS] else []
    for i, (field, value) in enumerate(cases):
        (tmp_path / "config.json").write_text(json.dumps({**config, field: value}))
        for door in doors:
            found = answer(door, tmp_path)
            if i < len(fields) and field != "latent_statistics":
                assert isinstance(found, str), f"{field} = {value} opened"
                assert f"{field} is " in found
            assert not isinstance(found, str) or "\n" not in found
        opened = answer(doors[0], tmp_path)
        if not isinstance(opened, str):
            side = opened.only_image_size or (16, 16)
            with torch.no_grad():
                assert opened.reconstruct(torch.zeros(1, opened.in_channels, *side)).shape[-2:] == tuple(side)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"latents_mean": [1.0]}, "latents_mean has 1 entries for 4 latent_channels"),
        ({"latents_std": [1, 1, 0, 1]}, r"latents_std is \[1, 1, 0, 1\], expected above 0"),
        ({"down_block_types": ["DownEncoderBlock2D"]}, "down_block_types has 1 entries, and block_out_channels 2"),
        ({"layers_per_block": 10**6}, "layers_per_block is 1000000, expected 1 to 1,024"),
        ({"scaling_factor": "0.18"}, "scaling_factor is '0.18', expected a number"),
        ({"scaling_factor": 0}, "scaling_factor is 0, expected above 0"),
        ({"sample_size": [64, 64]}, "sample_size is .64, 64., expected a whole number"),
        (
            {"force_upcast": "yes", "act_fn": 3},
            "force_upcast is 'yes', expected true or false; act_fn is 3, expected text",
        ),
        ({"_class_name": ["AutoencoderKL"]}, r"holds \['AutoencoderKL'\], which is not supported"),
        ({"act_fn": "a" * 5000}, r"aaa….*\.$"),
        ({"_class_name": "a\nb"}, r"holds 'a\\nb', which is not supported"),
    ],
)
def test_the_sentence(fields, words, tmp_path, capsys):
    tiny("AutoencoderKL").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    fields = dict(sorted(fields.items(), reverse=True))
    (tmp_path / "config.json").write_text(json.dumps({**config, **fields}))
    with pytest.raises(UserError, match=words.split("; ")[0]):
        load_autoencoder(str(tmp_path))
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_model_that_does_not_fit_in_memory_is_not_built(tmp_path):
    huge = {"_class_name": "AutoencoderKL", "block_out_channels": [1 << 20], "norm_num_groups": 32}
    (tmp_path / "config.json").write_text(json.dumps(huge))
    with pytest.raises(UserError, match=r"would take [\d,]+ GiB"):
        new_from_config(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "5", '"x"', "null", '{"a": NaN}', ""])
def test_what_is_no_config_at_all(content, tmp_path):
    AutoencoderVAE(**OURS).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        load_autoencoder(str(tmp_path))
    with pytest.raises((UserError, OSError), match=r"config"):
        AutoencoderVAE.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "right", "wrong", "words"),
    [
        (int, [1, -1], [True, 1.0, "1", None, [1], 10**400], "a whole number"),
        (float, [1, 1.5], [True, "1", None, float("inf"), 10**400], "a number"),
        (bool, [True], [1, 0, None, "true"], "true or false"),
        (str | None, ["", None], [1, ["a"]], "text or null"),
        (tuple[int, ...] | None, [[], [1, 2], None], [1, [1.5], [[1]]], "a list of whole numbers or null"),
        (tuple[float, float], [[0, 1]], [[0], [0, 1, 2], 1], "a list of 2 numbers"),
        (int | tuple[int, int], [8, [8, 8]], [[8], [8, 8, 8], "8"], "a whole number or a list of 2 whole numbers"),
        (tuple[int, float], [[0, 1.5]], [[0], [0.5, 1]], "[a whole number, a number]"),
        (list[tuple[int, float]], [[], [[0, 1]]], [[0, 1], [[0]]], "a list of lists, each [a whole number, a number]"),
        (dict[str, list[float]], [{}, {"a": [1.0]}], [[], {"a": 1}, {"a": ["x"]}], "an object"),
    ],
)
def test_types(annotation, right, wrong, words):
    assert all(fits(value, annotation) for value in right)
    assert not any(fits(value, annotation) for value in wrong)
    assert accepted(annotation) == words
