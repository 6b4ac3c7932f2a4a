"""What `push` sends, driven through the real client to the loopback Hub."""

import json
import re

import huggingface_hub
import pytest
import torch
from diffusers import VQModel
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load, load_file

from support.pushed import REPO, card, commits, new_model
from vae_plugin import AutoencoderTinyFlux2, AutoencoderVAE
from vae_plugin import hub as published
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import PushError, UserError
from vae_plugin.hub import client


def test_one_commit_holds_the_model_its_numbers_and_its_card(connected, folder):
    info = published.push(folder, REPO, license="mit", private=True)
    [commit] = commits(connected)
    assert info.oid == commit.oid
    assert connected.repositories[REPO].private
    assert set(commit.files) - {".gitattributes"} == {
        "README.md", "config.json", "diffusion_pytorch_model.safetensors", "metrics.json", "run.json",
        "samples/prior.png",
    }  # fmt: skip
    text = card(connected)
    assert "21.5 dB" in text
    assert "license: mit" in text
    assert f'from_pretrained("{REPO}"' in text
    assert commit.files["diffusion_pytorch_model.safetensors"].sha256 in text
    assert not (folder / "README.md").exists()  # the folder is only read


def test_what_has_not_changed_makes_no_commit_and_is_not_sent_again(connected, folder):
    first = published.push(folder, REPO)
    sent = len(connected.requests)
    assert published.push(folder, REPO).oid == first.oid
    assert len(commits(connected)) == 1
    assert not [line for line in connected.requests[sent:] if line[0] == "PUT" or "/commit/" in line[1]]
    (folder / "metrics.json").write_text(json.dumps({"psnr": 22.5, "num_images": 3, "steps": 9}))
    published.push(folder, REPO)
    before, after = commits(connected)[1].files, commits(connected)[0].files
    assert {name for name in after if after[name] != before.get(name)} == {"metrics.json", "README.md"}


def test_a_model_in_memory_is_pushed_with_a_card_and_its_method_does_the_same(connected, folder):
    url = AutoencoderVAE.from_pretrained(folder).push_to_hub(REPO, commit_message="Mine")
    [commit] = commits(connected)
    assert str(folder).encode() not in commit.files["config.json"].content
    assert url.endswith(commit.oid)
    assert commit.title == "Mine"
    assert "1/2 of the side" in card(connected)
    assert "trained" not in card(connected).split("## Use")[0]  # nobody has said that it was


def test_an_adapter_is_pushed_in_the_class_that_it_was_opened_as(connected):
    torch.manual_seed(0)
    model = VQModel(block_out_channels=(8,), norm_num_groups=4, num_vq_embeddings=16, latent_channels=4)
    published.push(adapt(model), REPO)
    [commit] = commits(connected)
    assert json.loads(commit.files["config.json"].content)["_class_name"] == "VQModel"
    state = load(commit.files["diffusion_pytorch_model.safetensors"].content)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert "from diffusers import VQModel" in card(connected)


def test_a_tiny_model_of_ours_is_pushed_with_the_import_that_it_needs(connected):
    torch.manual_seed(0)
    model = AutoencoderTinyFlux2(block_out_channels=(8, 8), layers_per_block=1, latent_channels=4)
    model.push_to_hub(REPO)
    [commit] = commits(connected)
    assert json.loads(commit.files["config.json"].content)["_class_name"] == "AutoencoderTinyFlux2"
    assert "from vae_plugin import AutoencoderTinyFlux2  # also registers" in card(connected)
    assert "library_name: vae-plugin" in card(connected)


def test_branches_and_tags(connected, folder):
    info = published.push(folder, REPO, revision="experiment", tag="v1")
    repository = connected.repositories[REPO]
    assert repository.branches["experiment"] == repository.tags["v1"] == info.oid
    assert not commits(connected)  # main is as it was
    published.push(folder, REPO, revision="experiment", tag="v1")


def test_words_that_people_have_written_on_the_hub_stay(connected, folder):
    published.push(folder, REPO, license="mit")
    old = card(connected).replace("license: mit", "license: apache-2.0\nlanguage: en")
    connected.commit(REPO, {"README.md": f"{old}\nWritten on the Hub.\n".encode()}, "Edit")
    (folder / "metrics.json").write_text(json.dumps({"psnr": 30.25, "num_images": 3}))
    published.push(folder, REPO)
    text = card(connected)
    assert all(words in text for words in ("Written on the Hub.", "30.25 dB", "license: apache-2.0", "language: en"))
    assert "21.5" not in text
    published.push(folder, REPO, overwrite_card=True)
    assert "Written on the Hub." not in card(connected)


def test_a_card_that_is_out_of_reach_is_not_replaced(connected, folder, monkeypatch):
    """diffusers' own push takes any failure for a card that is not there, and writes its template over it."""
    monkeypatch.setattr(client, "DEADLINE", 0.5)
    connected.commit(REPO, {"README.md": b"Mine."}, "Mine")
    connected.fail(r"README.md", 503, times=10**6)
    with pytest.raises(PushError, match="card"):
        published.push(folder, REPO)
    assert card(connected) == "Mine."


def test_an_index_of_earlier_weights_does_not_stay_in_the_way(connected, folder, tmp_path):
    whole, sharded = folder, tmp_path / "sharded"
    new_model().save_pretrained(sharded, max_shard_size="20KB")
    published.push(sharded, REPO)
    names = set(connected.repositories[REPO].resolve().files)
    assert "diffusion_pytorch_model.safetensors.index.json" in names
    connected.commit(REPO, {"diffusion_pytorch_model.fp16.safetensors": b"a variant of somebody's"})
    published.push(whole, REPO)
    names = {name for name in connected.repositories[REPO].resolve().files if name.startswith("diffusion")}
    assert names == {"diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"}


def test_commits_of_others_in_between_are_kept(connected, folder, monkeypatch):
    published.push(folder, REPO)
    send = client.HfApi.create_commit
    once = iter([True])

    def others_first(*args, **kwargs):
        if next(once, False):
            connected.commit(REPO, {"theirs.txt": b"theirs"}, "Theirs")
        return send(*args, **kwargs)

    monkeypatch.setattr(client.HfApi, "create_commit", others_first)
    (folder / "metrics.json").write_text("{}")
    published.push(folder, REPO)
    files = connected.repositories[REPO].resolve().files
    assert files["theirs.txt"].content == b"theirs"
    assert files["metrics.json"].content == b"{}"


@pytest.mark.parametrize(
    "pattern",
    [
        "repos/create",
        "preupload",
        "validate-yaml",
        "/commit/",
        "objects/batch",
        "PUT /storage",
        "verify",
        "GET .*/tree/",
    ],
)
def test_what_fails_now_and_then_is_tried_again(connected, folder, pattern):
    connected.fail(pattern, 503, times=2)
    published.push(folder, REPO)
    [commit] = commits(connected)
    assert (
        commit.files["diffusion_pytorch_model.safetensors"].content
        == (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    )


def test_a_hub_that_is_down_ends_in_a_sentence(connected, folder, monkeypatch):
    monkeypatch.setattr(client, "DEADLINE", 0.5)
    connected.fail("/commit/", 500, times=10**6)
    with pytest.raises(PushError, match=r"could not commit to user/vae: .*500"):
        published.push(folder, REPO)
    assert not commits(connected)


def test_metadata_that_the_hub_refuses_are_told_at_once(connected, folder):
    connected.fail("validate-yaml", 400)
    with pytest.raises(PushError, match=r"400|failure on demand"):
        published.push(folder, REPO)


def test_a_licence_that_the_hub_does_not_know_is_found_out_before_anything_is_sent(connected, folder):
    with pytest.raises(UserError, match="does not know the licence 'MIT'"):
        published.push(folder, REPO, license="MIT")
    assert REPO not in connected.repositories


def test_without_a_token_nothing_is_asked(connected, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    with pytest.raises(UserError, match=r"no token.*HF_TOKEN"):
        published.push(folder, REPO)
    assert not connected.requests


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_may_not_write_is_found_out_before_anything_is_sent(connected, folder, status):
    connected.commit(REPO, {})
    connected.fail("preupload", status)
    with pytest.raises(UserError, match="no write access to user/vae"):
        published.push(folder, REPO)
    assert not [line for line in connected.requests if line[0] == "PUT"]


@pytest.mark.parametrize("repo_id", ["user/a/b", "user/", "user/ü", "-x", ""])
def test_an_id_that_cannot_be_is_refused(connected, folder, repo_id):
    with pytest.raises(UserError, match="cannot be a repository"):
        published.push(folder, repo_id)


def test_offline_is_said(connected, folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        published.push(folder, REPO)


def test_no_message_holds_a_signature():
    signed = "https://store/x?X-Amz-Signature=secret&X-Amz-Date=now"
    error = RuntimeError(f"Client error '403 Forbidden' for url '{signed}'\nCannot access content at: {signed}.")
    assert client.describe(error) == "Client error '403 Forbidden' for url 'https://store/x'"


def test_no_message_holds_a_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "my-own-token-format")
    error = RuntimeError("refused my-own-token-format and hf_abcdefghij, Authorization: Bearer xyz123")
    assert client.describe(error) == "refused hf_*** and hf_***, Authorization: Bearer hf_***"


def run_code(text: str) -> None:
    names: dict = {}
    exec(text, names)
    assert names["reconstruction"].shape == (1, 1, 16, 16)
    assert names["image"].size == names["picture"].size == (16, 16)


@pytest.mark.slow
def test_the_code_of_a_pushed_card_runs(connected, folder, fresh):
    """In a fresh interpreter, which has the picture of the card from the repository."""
    Image.new("L", (16, 16), 50).save(folder / "samples" / "example.png")
    published.RunRecord(pictures={"A held-out image": "samples/example.png"}).save(folder)
    published.push(folder, REPO)
    code, *_ = re.findall(r"```python\n(.*?)```", card(connected), re.S)
    fresh(run_code, connected, code)


def load_online_and_from_the_cache(repo_id: str, revision: str, total: float) -> None:
    from vae_plugin import AutoencoderVAE

    for where in ({"revision": revision}, {"revision": revision, "local_files_only": True}):
        model = AutoencoderVAE.from_pretrained(repo_id, **where)
        assert sum(value.double().sum().item() for value in model.state_dict().values()) == total


@pytest.mark.slow
def test_what_is_loaded_is_what_was_pushed(connected, folder, fresh):
    info = published.push(folder, REPO)
    weights = load_file(folder / "diffusion_pytorch_model.safetensors").values()
    total = sum(value.double().sum().item() for value in weights)
    fresh(load_online_and_from_the_cache, connected, REPO, info.oid, total)


def test_a_commit_whose_answer_is_lost_is_found_and_not_made_twice(connected, folder):
    connected.faults.lose_reply("/commit/")
    info = published.push(folder, REPO)
    [commit] = commits(connected)
    assert info.oid == commit.oid


@pytest.mark.parametrize("pattern", ["repos/create", "preupload", "objects/batch", "PUT /storage", "/commit/", "/tag/"])
def test_connections_that_are_cut_are_made_again(connected, folder, pattern):
    connected.faults.cut(pattern, times=2)
    published.push(folder, REPO, tag="v1")
    assert len(commits(connected)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_half_of_all_requests_may_fail(connected, folder, seed):
    connected.faults.seed(seed)
    connected.faults.storm(0.5)
    info = published.push(folder, REPO, tag="v1", revision="dev")
    connected.faults.heal()
    [commit] = commits(connected, "dev")
    assert connected.repositories[REPO].tags == {"v1": info.oid}
    assert commit.oid == info.oid
    for name in ("diffusion_pytorch_model.safetensors", "config.json", "metrics.json"):
        assert commit.files[name].content == (folder / name).read_bytes()


def test_a_private_repository_is_not_seen_by_others(connected, folder):
    published.push(folder, REPO, private=True)
    with pytest.raises(huggingface_hub.errors.RepositoryNotFoundError):
        huggingface_hub.HfApi(endpoint=connected.url, token=False).model_info(REPO)
    assert huggingface_hub.HfApi(endpoint=connected.url).model_info(REPO).private


def test_a_name_alone_is_of_the_tokens_user(connected, folder):
    published.push(folder, "vae")
    assert len(commits(connected)) == 1
