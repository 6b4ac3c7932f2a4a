"""The loopback Hub, asked by the real client."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, get_hf_file_metadata
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CARD = "---\nlicense: apache-2.0\n---\n# A model\n"


@pytest.fixture
def api(hub, monkeypatch, tmp_path) -> HfApi:
    """A client in this process, kept from the user's cache and from the real Hub."""
    harnesses = tmp_path / "agent_harnesses.json"  # which the client would ask the real Hub for
    harnesses.write_text('{"harnesses": {}}')
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(harnesses), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return HfApi(endpoint=hub.url, token="hf_loopback")


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "folder"
    (folder / "vae").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "model_index.json").write_text("{}")
    (folder / "vae" / "config.json").write_text('{"latent_channels": 4}')
    (folder / "vae" / "weights.safetensors").write_bytes(bytes(range(256)) * 1000)
    return folder


def contents(folder: str | Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def paths(hub, method: str) -> list[str]:
    return [path for verb, path in hub.requests if verb == method]


def push(api: HfApi, folder: Path, **kwargs) -> str:
    api.create_repo("user/model", exist_ok=True)
    return api.upload_folder(repo_id="user/model", folder_path=folder, **kwargs).oid


def test_what_was_pushed_is_what_is_loaded(hub, api, folder):
    oid = push(api, folder, commit_message="A title", commit_description="A story")

    assert api.model_info("user/model").sha == oid
    loaded = api.snapshot_download("user/model")
    assert Path(loaded).name == oid
    assert contents(loaded) == {**contents(folder), ".gitattributes": b""}
    newest = api.list_repo_commits("user/model")[0]
    assert (newest.commit_id, newest.title, newest.message) == (oid, "A title", "A story")
    # The client's own hashes of the files say that nothing is to be done.
    assert push(api, folder) == oid
    assert len(paths(hub, "PUT")) == 1


def test_only_large_files_are_sent_to_the_storage_and_without_the_token(hub, api, folder):
    push(api, folder)
    api.snapshot_download("user/model")
    stored = [(verb, path) for verb, path in hub.requests if path.startswith("/storage/")]
    (oid,) = hub.objects
    # The storage would have refused the token.
    assert stored == [("PUT", f"/storage/{oid}"), ("GET", f"/storage/{oid}")]
    assert hub.objects[oid] == (folder / "vae" / "weights.safetensors").read_bytes()


def test_the_checksums_are_those_of_the_client(api, folder, tmp_path):
    push(api, folder)
    loaded = api.snapshot_download("user/model", local_dir=tmp_path / "loaded")
    assert not api.verify_repo_checksums("user/model", local_dir=loaded).mismatches
    (tmp_path / "loaded" / "vae" / "config.json").write_text("{}")
    assert [m["path"] for m in api.verify_repo_checksums("user/model", local_dir=loaded).mismatches] == [
        "vae/config.json"
    ]


def test_files_and_folders_can_be_deleted(api, folder):
    push(api, folder)
    api.delete_file("model_index.json", "user/model")
    api.delete_folder("vae", "user/model")
    assert api.list_repo_files("user/model") == [".gitattributes", "README.md"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("model_index.json", "user/model")


def test_branches_tags_and_commits_are_revisions(api, folder):
    first = push(api, folder)
    api.create_branch("user/model", branch="runs/1")
    api.create_tag("user/model", tag="v1")
    (folder / "model_index.json").write_text('{"v": 2}')
    second = push(api, folder, revision="runs/1")

    refs = api.list_repo_refs("user/model")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "runs/1": second}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    for revision, text in {"main": "{}", "v1": "{}", first: "{}", "runs/1": '{"v": 2}', second: '{"v": 2}'}.items():
        path = api.hf_hub_download("user/model", "model_index.json", revision=revision)
        assert Path(path).read_text() == text, revision
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag("user/model", tag="v1")


def test_every_404_is_the_exception_that_the_client_has_for_it(api, folder):
    push(api, folder)
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("user/nothing", "config.json")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("user/model", "model_index.json", revision="nothing")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("user/model", "nothing.json")
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("user/model", "nothing"))
    with pytest.raises(RevisionNotFoundError):
        push(api, folder, revision="nothing")


def test_a_listing_comes_in_pages(hub, api, folder):
    push(api, folder)
    hub.page_size = 2
    hub.requests.clear()
    files = [".gitattributes", "README.md", "model_index.json"]
    assert [e.path for e in api.list_repo_tree("user/model")] == [*files, "vae"]
    assert len(hub.requests) == 2
    everything = {e.path for e in api.list_repo_tree("user/model", recursive=True)}
    assert everything == {*files, "vae", "vae/config.json", "vae/weights.safetensors"}
    assert len(hub.requests) == 2 + 3
    assert [e.path for e in api.list_repo_tree("user/model", "vae")] == ["vae/config.json", "vae/weights.safetensors"]


def test_a_stale_parent_commit_is_refused(api, folder):
    first = push(api, folder)
    (folder / "model_index.json").write_text('{"v": 2}')
    second = push(api, folder, parent_commit=first)
    (folder / "model_index.json").write_text('{"v": 3}')
    with pytest.raises(HfHubHTTPError, match="412"):
        push(api, folder, parent_commit=first)
    assert api.model_info("user/model").sha == second


def test_writing_needs_a_token_and_a_valid_card(hub, api, folder):
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub.url, token=False).create_repo("user/model")
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        push(api, folder)
    assert len(hub.repositories["user/model"].commits) == 1


def test_requests_fail_on_demand(hub, api, folder):
    hub.fail("PUT /storage/", status=500)  # which the client tries again
    hub.fail("POST .*/commit/main", status=503)  # which it does not
    with pytest.raises(HfHubHTTPError, match="503"):
        push(api, folder)
    assert len(paths(hub, "PUT")) == 2

    push(api, folder)
    hub.fail(r"HEAD .*/README\.md", status=503, times=2)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="503"):
            get_hf_file_metadata(f"{hub.url}/user/model/resolve/main/README.md")
    assert api.hf_hub_download("user/model", "README.md")


def test_a_folder_can_be_committed_without_a_client(hub, api, folder):
    first = hub.commit("user/model", folder)
    second = hub.commit("user/model", {"model_index.json": b"[]", "README.md": None}, branch="dev")
    assert api.model_info("user/model").sha == first
    loaded = api.snapshot_download("user/model", revision="dev")
    assert Path(loaded).name == second
    changed = {**contents(folder), ".gitattributes": b"", "model_index.json": b"[]"}
    del changed["README.md"]
    assert contents(loaded) == changed


def push_and_load_with_diffusers() -> None:
    import torch
    from diffusers import AutoencoderKL
    from huggingface_hub import create_branch

    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8)
    vae.push_to_hub("user/vae", commit_message="First")
    create_branch("user/vae", branch="first")
    saved = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    torch.nn.init.zeros_(vae.quant_conv.weight)
    vae.push_to_hub("user/vae", variant="fp16", commit_message="Second")

    for revision, variant, expected in (("first", None, saved), ("main", "fp16", vae.state_dict())):
        loaded = AutoencoderKL.from_pretrained("user/vae", revision=revision, variant=variant).state_dict()
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected), revision


@pytest.mark.slow
def test_diffusers_pushes_and_loads(hub, fresh):
    fresh(push_and_load_with_diffusers, hub)
    model = hub.repositories["user/vae"]
    assert [commit.title for commit in model.history()] == ["Second", "First", "initial commit"]
    assert "library_name: diffusers" in model.resolve().file("README.md").content.decode()
