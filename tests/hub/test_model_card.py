"""The card says what was measured and nothing else, and its code runs."""

import dataclasses
import json
import random
import re

import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token

from support.tiny_exports import kl
from support.tiny_pipelines import build_dit
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE, distribution
from vae_plugin.hub import METRICS, RunRecord, model_card
from vae_plugin.hub.merging import merged


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
    code, *_ = re.findall(r"```python\n(.*?)```", text, re.S)
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


@pytest.mark.parametrize(
    ("record", "title"),
    [
        ({}, "VAE: 16 × 16 pixels to 4 × 8 × 8 latents"),
        ({"dataset": "photos"}, "VAE trained on photos: 16 × 16 pixels to 4 × 8 × 8 latents"),
        (
            {"dataset": "photos", "base_model": "b", "part": "decoder"},
            "VAE, decoder fine-tuned from b on photos: 16 × 16 pixels to 4 × 8 × 8 latents",
        ),
    ],
)
def test_the_title_says_what_it_is(vae, record, title):
    assert f"\n# {title}\n" in str(model_card(vae, {}, RunRecord(**record)))


MOVED = {"moved": True, "scaling_factor": {"was": 0.18215, "is": 0.95}}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"part": "all"}, "The latent space has moved"),  # of 0.1, which told nothing else
        ({"part": "all", "latent_space": MOVED}, "scaling_factor was 0.18215 and is 0.95"),
        ({"part": "decoder", "latent_space": {**MOVED, "rescaled_only": True}}, "needs the old values"),
        ({"part": "decoder"}, None),
        ({"part": "decoder", "latent_space": {"moved": False}}, None),
        ({"part": "all", "teacher": "t"}, None),
        ({"base_model": None}, None),
    ],
)
def test_moved_latents_stand_in_the_first_lines(vae, record, words):
    text = str(model_card(vae, {}, RunRecord(**{"dataset": "photos", "base_model": "sd-vae", **record})))
    first = " ".join(text.partition("\n# ")[2].replace("\\", "").split("\n\n")[1].split())
    if words is None:
        assert not first.startswith(">")
    else:
        assert first.startswith("> **Note for pipelines.**")
        assert words in first
        assert "sd-vae" in first


def test_the_card_tells_how_to_install_what_its_code_needs(vae, monkeypatch):
    monkeypatch.setattr(distribution, "_addresses", lambda: {"repository": "https://git.example/p"})
    text = str(model_card(vae, {}))
    assert "pip install git+https://git.example/p\n" in text
    assert "[vae-plugin](https://git.example/p)" in text
    assert "https://arxiv.org/abs/1312.6114" in text
    plain = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    text = str(model_card(plain, {}))
    assert "pip install diffusers torch\n" in text
    assert "https://arxiv.org/abs/2112.10752" in text
    monkeypatch.setattr(distribution, "_addresses", dict)
    assert "http" not in str(model_card(vae, {})).partition("## Citation")[0]


def test_a_fine_tune_of_the_decoder_names_the_pipeline_that_it_is_of():
    plain = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    record = RunRecord(base_model="a/b", base_model_id="a/b", part="decoder", options={"subfolder": "vae"})
    assert 'DiffusionPipeline.from_pretrained("a/b", vae=vae)' in str(model_card(plain, {}, record))
    assert '"a/b", vae=vae' not in str(model_card(plain, {}, dataclasses.replace(record, part="all")))


def test_bits_of_a_density_are_never_compared_with_those_of_0_1(vae):
    """Version 0.1 left out the width of a level, under another key."""
    metrics = {"bits_per_dim_bound": 8.25, "base_bits_per_dim": 1.25, "psnr": 20.0, "base_psnr": 19.0}
    [row] = re.findall(r"\| ([^|]*bits[^|]*) \|([^|]*)\|([^|]*)\|", str(model_card(vae, metrics)))
    assert "upper bound" in row[0]
    assert (row[1].strip(), row[2].strip()) == ("8.25 bits", "")
    assert "1.25" not in str(model_card(vae, metrics))


def test_the_code_for_a_pipeline_runs(tmp_path):
    model = kl()
    model.save_pretrained(tmp_path / "vae")
    build_dit(model).pipe.save_pretrained(tmp_path / "pipeline")
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", str(model_card(model, {})), re.S):
        code = code.replace("PATH-OR-HUB-ID-OF-A-PIPELINE", str(tmp_path / "pipeline"))
        exec(code.replace("PATH-OR-HUB-ID", str(tmp_path / "vae")), names)
    assert names["pipeline"].vae is names["vae"]


@pytest.mark.parametrize(("is_result", "words"), [(True, "whose weights are the result"), (False, "the last weights")])
def test_the_card_says_whose_weights_the_result_has(vae, is_result, words):
    best = {"metric": "perceptual", "value": 0.25, "step": 300, "is_result": is_result}
    [row] = re.findall(r"\| best evaluation \|(.*)\|", str(model_card(vae, {}, RunRecord(dataset="photos", best=best))))
    assert row.startswith(" perceptual 0.25 at step 300")
    assert words in row


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


FRAGMENTS = [
    *HOSTILE, "<!-- generated:end -->", "<!-- generated:begin x", "-->", "\n---\n", "\n# h\n", "\n\n    code", "\n> q",
    "\n- l", "\n1. l", "\n===\n", "|", "\\", "\\|", "`", "``", "~~~", "*b*", "__b__", "~~s~~", "![i](http://x/i.png)",
    "<http://x>", "https://evil.example", "www.evil.example", "evil.com", "//evil.com", "me@evil.com", "@user",
    "mailto:a@b.cc", "&lt;b&gt;", "&#60;b&#62;", "$x$", "$$", "[^1]", "[r]: http://x", "[r]", "{% raw %}", "{# c",
    "{{ cycler }}", "{%", "\0", "\x1b[31m", "\ud800", "\udcff", "\u202e", "\u2028", "\r", "\t", " ", "", "é", "words",
    "!!python/object/apply:os.system [x]", "&a [*a]", "key: value", "'", '"', "\n...\n", "%YAML 1.1", ": ", " #", "? ",
    "</details>", "<script>", "javascript:alert(1)",
]  # fmt: skip
TEXTS = (
    "dataset", "split", "base_model", "base_revision", "teacher", "license",
    "license_name", "license_link", "command", "device", "mixed_precision", "commit",
)  # fmt: skip


def filled(words) -> RunRecord:
    """A record with words from `words()` wherever text can stand."""
    return RunRecord(
        **{name: words() for name in TEXTS},
        **{name: f"no id {words()}" for name in ("dataset_id", "base_model_id")},  # a valid one is a link
        resolution=16,
        num_processes=2,
        seconds=100.0,
        options={words(): words(), f"{words()} list": [words(), words()]},
        pictures={words(): "samples/example.png", f"{words()} 1": "samples/example-decoded.png"},
        versions={words(): words()},
        best={"metric": words(), "value": words(), "step": words(), words(): words()},
        latent_space={"moved": True, words(): {"was": words(), "is": words()}},
    )


def structure(card: str) -> list[tuple[str, str]]:
    """What an independent reader of Markdown finds: elements with their addresses, and the names of the metadata."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = reader.parse(ModelCard(card).text)
    plain = ("text", "text_special", "code_inline", "softbreak", "inline")

    def found(token: Token) -> list[tuple[str, str]]:
        inner = [pair for child in token.children or () for pair in found(child)]
        address = str(token.attrs.get("href", token.attrs.get("src", "")))
        return ([] if token.type in plain else [(token.type, address)]) + inner

    inline = [child for token in tokens for child in token.children or ()]
    literal = " ".join(child.content for child in inline if child.type == "text")
    # What GitHub makes a link of without any mark; the papers' own addresses are meant to be.
    linked = re.search(r"https?://(?!arxiv)|www\.|\w@\w|\b\w+\.(com|example)", literal)
    assert linked is None, literal
    metadata = yaml.safe_load(re.match("---\n(.*?)\n---\n", card, re.S)[1])
    return [pair for token in tokens for pair in found(token)] + [("metadata", name) for name in sorted(metadata)]


@pytest.mark.slow
def test_no_words_of_a_run_make_an_element_a_link_or_a_key(vae, tmp_path):
    """Whatever stands in run.json, the card has the elements that it has with harmless words in the same places."""
    draw = random.Random(0)
    metrics = {"psnr": 3.0, "psnr_std": 1.0, "base_psnr": 1.0, "num_images": 2}
    numbers = iter(range(10**6))
    plain = structure(str(model_card(vae, metrics, filled(lambda: f"words {next(numbers)}"), repo_id="user/name")))
    assert ("metadata", "license") in plain
    assert ("image", "samples/example.png") in plain
    for _ in range(60):
        record = filled(lambda: "".join(draw.choices(FRAGMENTS, k=draw.randint(1, 4))) + str(next(numbers)))
        (tmp_path / "run.json").write_text(json.dumps(dataclasses.asdict(record)))
        record = RunRecord.load(tmp_path)
        text = str(model_card(vae, metrics, record, repo_id="user/name"))
        assert structure(text) == plain
        assert ModelCard(text).text.count("<!-- generated:") == 2
        text.encode()  # can be written


def test_what_people_add_to_the_metadata_stays_and_what_a_run_left_goes(vae):
    """Both can have the same name: the mark in the card says which were the run's."""
    on_hub = RunRecord(dataset="user/photos", dataset_id="user/photos")
    local = RunRecord(dataset="photos")
    first = merged(str(model_card(vae, {}, local)), "")
    by_hand = first.replace("\nlibrary_name:", "\ndatasets:\n- mine/photos\nbase_model: mine/base\nlibrary_name:", 1)
    again = ModelCard(merged(str(model_card(vae, {}, local)), by_hand)).data
    assert (again.datasets, again.base_model) == (["mine/photos"], "mine/base")
    of_another_run = ModelCard(merged(str(model_card(vae, {}, local)), str(model_card(vae, {}, on_hub)))).data
    assert of_another_run.datasets is None
    assert ModelCard(merged(str(model_card(vae, {}, on_hub)), by_hand)).data.datasets == ["user/photos"]


@pytest.mark.parametrize("field", ["scaling_factor", "shift_factor", "likelihood", "network", "latents_mean"])
def test_no_value_of_a_config_makes_an_element(vae, field):
    before = vae.config[field]
    plain = structure(str(model_card(vae, {}, RunRecord(dataset="photos"))))
    try:
        for words in (*HOSTILE, "a\n\n<script>", "www.evil.example"):
            vae.register_to_config(**{field: words})
            assert structure(str(model_card(vae, {}, RunRecord(dataset="photos")))) == plain
    finally:
        vae.register_to_config(**{field: before})
