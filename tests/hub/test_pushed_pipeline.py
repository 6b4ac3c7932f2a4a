"""A whole pipeline on the Hub: all that opens it, a card that begins with how, and nothing else."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from support.pushed import REPO
from support.tiny_pipelines import build_dit
from vae_plugin import AutoencoderVAE, distribution
from vae_plugin import hub as published
from vae_plugin.cli import main
from vae_plugin.errors import UserError
from vae_plugin.hub.folder import published_files

SIZES = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4}


def our_vae():
    torch.manual_seed(0)
    return AutoencoderVAE(in_channels=3, sample_size=16, **SIZES)


@pytest.fixture(scope="module")
def tiny():
    return build_dit(our_vae())


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "pipe"
    tiny.pipe.save_pretrained(path)
    return path


@pytest.fixture
def pipeline(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "pipe")


@pytest.fixture
def installed(monkeypatch):
    """The package is on an index."""
    monkeypatch.setattr(distribution, "install_command", lambda: "pip install vae-plugin")


def files(hub):
    return hub.repositories[REPO].resolve().files


def body(hub):
    return files(hub)["README.md"].content.decode().split("\n---\n", 1)[1]


def test_what_opens_the_pipeline_is_sent_and_nothing_else(connected, pipeline):
    (pipeline / ".env").write_text("secret")
    (pipeline / "optimizer.bin").write_text("secret")
    (pipeline / "vae" / "vae_plugin.py").write_text("secret")
    (pipeline / "vae" / "logs").mkdir()
    expected = {
        ".gitattributes", "README.md", "model_index.json", "scheduler/scheduler_config.json",
        "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    published.push(pipeline, REPO)
    assert set(files(connected)) == expected


def test_its_card_begins_with_the_installation_and_the_import_and_its_code_runs(
    connected, installed, pipeline, tiny, capsys
):
    assert main(["push", str(pipeline), REPO, "--license", "mit"]) == 0
    assert body(connected).startswith(
        "<!-- generated:begin (`vae-plugin card` rewrites this part and keeps everything outside it) -->\n"
        "```bash\npip install vae-plugin\n```\n\n```python\nimport vae_plugin "
    )
    assert "license: mit" in files(connected)["README.md"].content.decode()
    assert "vae/vae_plugin.py" in body(connected)
    [code] = re.findall(r"```python\n(.*?)```", body(connected), re.S)
    names = {}
    exec(code.replace(f'"{REPO}"', repr(str(pipeline))), names)
    assert type(names["pipeline"].vae) is AutoencoderVAE
    names["pipeline"].set_progress_bar_config(disable=True)
    image = names["pipeline"](**tiny.arguments, output_type="np", generator=torch.Generator().manual_seed(0)).images
    np.testing.assert_allclose(image, tiny(seed=0), atol=1e-4)


def test_a_pipeline_in_memory_is_pushed_and_another_one_without_our_classes_needs_no_import(connected, tmp_path):
    pipe = build_dit(AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)).pipe
    published.push(pipe, REPO)
    assert "vae_plugin" not in body(connected)
    assert "an `AutoencoderKL` as `vae`" in body(connected)
    assert json.loads(files(connected)["model_index.json"].content)["vae"] == ["diffusers", "AutoencoderKL"]


def test_the_words_and_metadata_of_people_stay_below(connected, installed, pipeline):
    old = "---\nlicense: openrail\nbase_model: user/base\ndatasets:\n- user/data\n---\n# Mine\n"
    connected.commit(REPO, {"README.md": old.encode()})
    for _ in range(2):
        published.push(pipeline, REPO)
        text = files(connected)["README.md"].content.decode()
        for words in ("license: openrail", "base_model: user/base", "- user/data", "library_name: diffusers"):
            assert text.count(words) == 1
        assert text.count("pip install vae-plugin") == text.count("# Mine") == 1
        assert text.index("import vae_plugin") < text.index("# Mine")
    connected.commit(REPO, {"README.md": text.replace("<!-- generated:begin", "Above.\n<!-- generated:begin").encode()})
    published.push(pipeline, REPO)
    assert body(connected).startswith("Above.\n<!--")  # where somebody has put it


def test_an_unchanged_pipeline_makes_no_commit_and_old_shards_go(connected, tiny, pipeline):
    tiny.pipe.save_pretrained(pipeline, max_shard_size="20KB")
    for path in pipeline.glob("*/diffusion_pytorch_model.safetensors"):
        if (path.parent / "diffusion_pytorch_model.safetensors.index.json").exists():
            path.unlink()
    first = published.push(pipeline, REPO)
    assert published.push(pipeline, REPO).oid == first.oid
    assert "transformer/diffusion_pytorch_model.safetensors.index.json" in files(connected)
    connected.commit(REPO, {"vae/model.safetensors": b"somebody's", "model.safetensors": b"too"})
    published.push(tiny.pipe, REPO)
    names = set(files(connected))
    assert not [name for name in names if "-of-" in name or "index.json" in name.removeprefix("model_index.json")]
    assert {"vae/model.safetensors", "model.safetensors"} <= names


def test_its_paths_stay_here_and_its_other_words_as_they_are(connected, pipeline, tmp_path):
    index = json.loads((pipeline / "model_index.json").read_text())
    (pipeline / "model_index.json").write_text(json.dumps({**index, "_name_or_path": str(tmp_path)}))
    tokenizer = {
        "name_or_path": "/home/secret/x",
        "vocab_file": "/home/secret/vocab",
        "pad_token": "/",
        "unk_token": "~",
    }
    (pipeline / "transformer" / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (pipeline / "transformer" / "vocab.json").write_text('{"/": 0, "/home/jane": 1}')
    published.push(pipeline, REPO)
    sent = {name: file.content for name, file in files(connected).items()}
    assert not [name for name, content in sent.items() if b"secret" in content or str(tmp_path).encode() in content]
    assert json.loads(sent["transformer/tokenizer_config.json"]) == {"pad_token": "/", "unk_token": "~"}
    assert sent["transformer/vocab.json"] == b'{"/": 0, "/home/jane": 1}'


def link(folder):
    (folder / "elsewhere").mkdir()
    (folder / "scheduler").rename(folder / "elsewhere" / "scheduler")
    (folder / "scheduler").symlink_to(folder / "elsewhere" / "scheduler")


def pickled(folder):
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def changed_index(**entries):
    def change(folder):
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps({**index, **entries}))

    return change


def own_code(folder):
    changed_index(transformer=["my_code", "My"])(folder)
    (folder / "transformer" / "my_code.py").write_text("")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (link, "is a link"),
        (pickled, "is a pickle"),
        (own_code, "code of its own"),
        (changed_index(_class_name=["pipeline", "Mine"]), "code of its own"),
        (changed_index(text_encoder=["transformers", "CLIPTextModel"]), "no folder text_encoder"),
        (changed_index(vae="AutoencoderVAE"), None),
        (changed_index(vae=[1, 2]), "does not name the library"),
        (changed_index(**{"../x": ["diffusers", "AutoencoderKL"]}), "does not name the library"),
        (lambda folder: (folder / "model_index.json").write_text("["), "not valid JSON"),
        (lambda folder: (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"x"), "safetensors"),
    ],
)
def test_what_cannot_be_published_is_one_sentence_before_anything_is_sent(connected, pipeline, harm, words):
    harm(pipeline)
    if words is None:
        assert not [name for name in published_files(pipeline) if name.startswith("vae/")]
        return
    with pytest.raises(UserError, match=words):
        published.push(pipeline, REPO)
    assert not [line for line in connected.requests if line[0] not in ("GET", "HEAD")]
