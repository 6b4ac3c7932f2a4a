"""The card says what was measured and nothing else, and its code runs."""

import re

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.hub import METRICS, RunRecord, model_card


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
    text = str(model_card(model, {}, RunRecord(dataset="circles")))
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict = {}
    exec(code.replace("PATH-OR-HUB-ID", str(tmp_path)), names)
    assert names["reconstruction"].shape == (1, 1, 16, 16)


def test_numbers_are_those_given_and_no_others(vae):
    text = str(model_card(vae, {"psnr": 31.416, "num_images": 12, "steps": 1500}, RunRecord(dataset="circles")))
    assert "31.42 dB" in text
    assert "1,500 steps" in text
    assert "On 12 images" in text
    absent = [name for key, (name, _) in METRICS.items() if key != "psnr"]
    assert not [name for name in absent if name in text]
    bare = str(model_card(vae, {}, RunRecord(dataset="circles")))
    assert "Results" not in bare
    assert "model-index" not in bare


@pytest.mark.parametrize(("scaling_factor", "standardized"), [(1.0, True), (0.7, False)])
def test_it_claims_standard_channels_only_where_they_are(vae, scaling_factor, standardized):
    vae.register_to_config(scaling_factor=scaling_factor)
    assert ("in every channel" in str(model_card(vae, {}, RunRecord(dataset="circles")))) == standardized


def test_pictures_are_shown(vae):
    text = str(model_card(vae, {}, RunRecord(dataset="circles", pictures={"Prior": "samples/prior.png"})))
    assert "![Prior](samples/prior.png)" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["one of 512 codes at every position", "`VectorQuantizer` with codes of 4 dimensions"]),
        (
            {"quantizer_type": "rvq"},
            ["4 of 512 codes at every position", "`encoded.indices` (batch, height / 2, width / 2, 4)"],
        ),
    ],
)
def test_a_discrete_model_says_its_codes(changes, words):
    model = AutoencoderVQVAE(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, **changes)
    text = " ".join(str(model_card(model, {"codebook_usage": 0.9375}, RunRecord(dataset="circles"))).split())
    assert all(word in text for word in words)
    assert "share of codes in use | 0.9375" in text
    assert "in every channel" not in text  # one scale for all


def test_whole_numbers_are_written_out():
    model = AutoencoderVQVAE(in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16)
    assert "| 1,234,567 |" in str(model_card(model, {"codebook_positions": 1234567}, RunRecord(dataset="circles")))


def test_the_base_model_stands_beside_it_with_the_interval_of_the_difference(vae):
    metrics = {"psnr": 26.0, "psnr_std": 2.0, "base_psnr": 25.0, "psnr_gain": 1.0, "psnr_gain_ci95": 0.25, "ssim": 0.7}
    card = model_card(vae, metrics, RunRecord(dataset="photos", base_model="sd-vae", base_model_id="user/sd-vae"))
    text = str(card)
    assert "| 26 ± 2 dB | 25 dB |" in text
    assert "| SSIM of the reconstruction | 0.7 |  |" in text
    assert "+1 dB of PSNR (95 % confidence interval +0.75 to +1.25)" in text
    assert card.data.base_model == "user/sd-vae"
    assert card.data.base_model_relation == "finetune"


def test_a_local_base_is_named_and_never_in_the_metadata(vae):
    card = model_card(vae, {}, RunRecord(dataset="photos", base_model="my-vae"))
    assert "fine-tuned from my-vae" in str(card)
    assert card.data.base_model is None


def test_the_metadata_hold_the_numbers_as_the_hub_shows_them(vae):
    metrics = {"psnr": 31.416, "ssim": float("nan"), "num_images": 12, "steps": 7}
    record = RunRecord(dataset="user/photos", dataset_id="user/photos", split="held out", resolution=16)
    data = model_card(vae, metrics, record).data
    [result] = data.eval_results
    assert (result.metric_type, result.metric_value) == ("psnr", 31.416)
    assert (result.dataset_type, result.dataset_split) == ("user/photos", "held out")
    assert result.dataset_args == {"resolution": 16, "num_images": 12}
    assert data.datasets == ["user/photos"]
    assert (data.library_name, data.pipeline_tag) == ("vae-plugin", "image-to-image")


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "a | b",
    "# title",
    "```\nend",
    "[link](http://x)",
    "---\nlicense: x",
    "{{ 7*7 }}",
]


@pytest.mark.parametrize("words", HOSTILE)
def test_what_users_write_stays_words(vae, words):
    """An independent reader of Markdown finds the words, and no element that they would have made."""
    record = RunRecord(
        dataset=words,
        base_model=words,
        teacher=words,
        split=words,
        command=f"vae-plugin finetune {words!r}\n```\n<script>",
        options={"train_data_dir": words},
        versions={words: words},
        pictures={words: f"samples/{words}.png"},
    )
    metrics = {"psnr": 3.0, "psnr_std": 1.0, "base_psnr": 1.0, "num_images": 2}
    text = str(model_card(vae, metrics, record, files={words: "0"}))
    plain = str(
        model_card(
            vae,
            metrics,
            RunRecord(
                **{**vars(record), **dict.fromkeys(("dataset", "base_model", "teacher", "split"), "words")},
            ),
            files={"words": "0"},
        )
    )
    reader = MarkdownIt("gfm-like", {"linkify": False})

    def elements(card: str) -> list[str]:
        tokens = reader.parse(ModelCard(card).text)
        inner = [child for token in tokens for child in token.children or ()]
        return [
            t.type
            for t in (*tokens, *inner)
            if t.type in ("heading_open", "link_open", "fence", "html_block", "html_inline")
        ]

    html = [t for t in elements(text) if t.startswith("html")]
    assert html == ["html_block"] * 2  # our own marks
    assert elements(text) == elements(plain)
    assert (
        yaml.safe_load(re.match("---\n(.*?)\n---\n", text, re.S)[1])["model-index"][0]["results"][0]["dataset"]["name"]
        == words
    )
