"""The card says what was measured and nothing else, and its code runs."""

import re

import pytest
import torch

from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.hub import METRICS, model_card


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return AutoencoderVAE(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16)


@pytest.fixture(scope="module")
def vqvae():
    return AutoencoderVQVAE(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16)


@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_the_code_of_the_card_runs(kind, request, tmp_path):
    model = request.getfixturevalue(kind)
    model.save_pretrained(tmp_path)
    text = str(model_card(model, {}, dataset="circles"))
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict = {}
    exec(code.replace("PATH-OR-HUB-ID", str(tmp_path)), names)
    assert names["reconstruction"].shape == (1, 1, 16, 16)


def test_numbers_are_those_given_and_no_others(vae):
    text = str(model_card(vae, {"psnr": 31.416, "num_images": 12, "steps": 1500}, dataset="circles"))
    assert "31.42 dB" in text
    assert "1,500 steps" in text
    assert "On 12 images" in text
    absent = [name for key, (name, _) in METRICS.items() if key != "psnr"]
    assert not [name for name in absent if name in text]
    assert "Results" not in str(model_card(vae, {}, dataset="circles"))


@pytest.mark.parametrize(("scaling_factor", "standardized"), [(1.0, True), (0.7, False)])
def test_it_claims_standard_channels_only_where_they_are(vae, scaling_factor, standardized):
    vae.register_to_config(scaling_factor=scaling_factor)
    assert ("in every channel" in str(model_card(vae, {}, dataset="circles"))) == standardized


def test_pictures_are_shown(vae):
    text = str(model_card(vae, {}, dataset="circles", pictures={"Prior": "samples/prior.png"}))
    assert "![Prior](samples/prior.png)" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["a code out of 512 at every place", "`VectorQuantizer` whose codes have 4 numbers"]),
        ({"quantizer_type": "rvq"}, ["4 codes out of 512 at every place", "with one for each of the 4 codes"]),
    ],
)
def test_a_discrete_model_says_its_codes(changes, words):
    model = AutoencoderVQVAE(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, **changes)
    text = " ".join(str(model_card(model, {"codebook_usage": 0.9375}, dataset="circles")).split())
    assert all(word in text for word in words)
    assert "share of codes that occur | 0.9375" in text
    assert "in every channel" not in text  # one scale for all


def test_whole_numbers_are_written_out():
    model = AutoencoderVQVAE(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16)
    assert "| 1,234,567 |" in str(model_card(model, {"codebook_tokens": 1234567}, dataset="circles"))
